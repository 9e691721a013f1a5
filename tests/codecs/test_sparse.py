"""Top-k and heavy sign: what is kept, the exact length, the contraction that theory promises, and refusals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsign.codecs import HeavySign, TopK
from fedsign.codecs.entropy import compress
from fedsign.errors import PayloadError
from fedsign.local.streams import Streams

CPU = torch.device("cpu")
SIZES = [1, 2, 3, 7, 8, 9, 63, 64, 65, 257]


def streams(n):
    return Streams(0, 1, range(n), CPU)


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def lattice(n, d, seed=0):
    """Values with many ties and zeros."""
    return torch.randint(-2, 3, (n, d), generator=torch.Generator().manual_seed(seed)).float()


def transported(codec, x):
    return codec.decode(codec.encode(x, streams(len(x))), x.shape[1])


def top(row, k):
    """Indices of the k largest magnitudes, ties to the lowest index, one by one."""
    order = sorted(range(len(row)), key=lambda j: (-abs(row[j]), j))
    return sorted(order[:k])


def log2_up(d):
    return math.ceil(math.log2(d))


@pytest.mark.parametrize("indices", ["fixed", "shortest"])
@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("d", SIZES)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(n=st.integers(1, 5), seed=st.integers(0, 2**32), values=st.sampled_from([normal, lattice]))
def test_top_k_keeps_the_largest_and_of_ties_the_first(d, ratio, indices, n, seed, values):
    x = values(n, d, seed)
    k = max(1, int(ratio * d))
    expected = torch.zeros(n, d)
    for i in range(n):
        kept = top(x[i].tolist(), k)
        expected[i, kept] = x[i, kept]
    assert torch.equal(transported(TopK(ratio, indices), x), expected)


@pytest.mark.parametrize("ratio", [0.001, 0.03, 0.1, 1.0])
@pytest.mark.parametrize("d", [*SIZES, 24_794, 100_003])
def test_top_k_takes_32_bits_a_value_and_log2_d_an_index(d, ratio):
    k = max(1, int(ratio * d))
    bits = k * (32 + log2_up(d))
    codec = TopK(ratio)
    (row,) = codec.encode(normal(1, d))
    assert codec.unpadded_bits(d) == bits
    assert len(row) == codec.length(d) == math.ceil(bits / 8)


@pytest.mark.parametrize("ratio", [0.001, 0.03, 0.06, 0.07, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("d", [*SIZES, 24_794])
def test_shortest_indices_take_the_cheapest_of_three_forms_and_a_byte(d, ratio):
    k = max(1, int(ratio * d))
    codec = TopK(ratio, "shortest")
    (row,) = codec.encode(normal(1, d))
    marked = np.zeros(d, dtype=np.int32)
    marked[top(normal(1, d)[0].tolist(), k)] = 1
    forms = [math.ceil(k * log2_up(d) / 8), math.ceil(d / 8), len(compress(marked, 1))]
    assert len(row) == 4 * k + 1 + min(forms) <= codec.length(d)
    assert row[4 * k] == forms.index(min(forms))


@pytest.mark.parametrize("ratio", [0.003, 0.03, 0.3])
def test_entropy_coded_indices_come_within_a_percent_of_the_number_of_subsets(ratio):
    d = 24_794
    k = int(ratio * d)
    floor = (math.lgamma(d + 1) - math.lgamma(k + 1) - math.lgamma(d - k + 1)) / math.log(2)  # log2 C(d, k)
    (row,) = TopK(ratio, "shortest").encode(normal(1, d))
    assert (
        floor < 8 * (len(row) - 4 * k) < 1.01 * floor + 8 + 32 + 64
    )  # the byte, the frequency, the coder's last state


@pytest.mark.parametrize(("d", "ratio", "form"), [(6, 0.5, 1), (1000, 0.001, 0), (1000, 0.1, 2)])
@pytest.mark.parametrize("change", ["tag", "cut", "extended"])
def test_broken_shortest_indices_are_refused(d, ratio, form, change):
    codec = TopK(ratio, "shortest")
    rows = codec.encode(normal(3, d))
    at = 4 * codec.kept(d)
    assert rows[1][at] == form
    if change == "tag":
        rows[1][at] = 3
    elif change == "cut":
        rows[1] = rows[1][:-1]
    else:
        rows[1] = torch.cat([rows[1], rows[1][-1:]])
    with pytest.raises(PayloadError) as error:
        codec.mean(rows, d)
    assert error.value.row == 1


@pytest.mark.parametrize(("d", "ratio"), [(6, 0.5), (1000, 0.1)])
def test_flipped_bitmaps_are_refused(d, ratio):
    codec = TopK(ratio, "shortest")
    rows = codec.encode(normal(3, d))
    rows[1][4 * codec.kept(d) + 1] ^= 255
    with pytest.raises(PayloadError) as error:
        codec.mean(rows, d)
    assert error.value.row == 1


def test_top_k_row_is_the_values_then_the_indices():
    x = torch.tensor([[0.0, -2.0, 0.5, 3.0, 0.0, 1.0]])
    (row,) = TopK(0.5).encode(x)
    assert row[:12].view(torch.float32).tolist() == [-2.0, 3.0, 1.0]
    assert row[12:].tolist() == [0b00101110, 0b10000000]  # 001 011 101
    (row,) = TopK(0.5, "shortest").encode(x)
    assert row[12:].tolist() == [1, 0b01010100]


def test_top_k_with_fewer_non_zeros_than_k_sends_the_first_zeros():
    x = torch.tensor([[0.0, 0.0, 5.0, 0.0, 0.0, 0.0]])
    (row,) = TopK(0.5).encode(x)
    assert row[12:].tolist() == [0b00000101, 0b00000000]  # 000 001 010
    assert torch.equal(TopK(0.5).decode([row], 6), x)


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("codec", [lambda r: TopK(r), lambda r: HeavySign(r, "plus")], ids=["top_k", "heavy_sign"])
def test_contraction(codec, ratio):
    """‖C(x) − x‖² ≤ (1 − k/d) ‖x‖² of top-k; (1 − 1/d) ‖x‖² of heavy sign in one group."""
    d = 1000
    for x in (normal(20, d), normal(20, d).exp(), torch.eye(20, d), torch.ones(1, d)):
        error = ((transported(codec(ratio), x) - x).double() ** 2).sum(dim=1)
        delta = ratio if isinstance(codec(ratio), TopK) else 1 / d
        assert (error <= (1 - delta) * (x.double() ** 2).sum(dim=1) * (1 + 1e-6)).all()


def test_top_k_is_idempotent():
    x = normal(5, 301)
    once = transported(TopK(0.1), x)
    assert torch.equal(transported(TopK(0.1), once), once)


def test_top_k_of_everything_is_everything():
    x = normal(3, 77)
    assert torch.equal(transported(TopK(1.0), x), x)


def naive_heavy_sign(row, k, sizes):
    """Mean magnitude of the kept entries of each group, with the signs; and how many groups are hit."""
    kept, out, start, hit = top(row, k), np.zeros(len(row)), 0, 0
    for size in sizes:
        inside = [j for j in kept if start <= j < start + size]
        start += size
        if inside:
            hit += 1
            out[inside] = np.sign(row[inside]) * np.mean(np.abs(row[inside]))
    return out, hit


@pytest.mark.parametrize("sizes", [[100], [1, 1, 98], [40, 5, 5, 50], [10] * 10])
@pytest.mark.parametrize("ratio", [0.01, 0.05, 0.3, 1.0])
def test_heavy_sign_is_the_mean_magnitude_of_the_kept_entries_of_a_group(ratio, sizes):
    x, k = normal(6, 100), int(ratio * 100)
    codec = HeavySign(ratio, "random", sizes)
    rows = codec.encode(x, streams(6))
    decoded = codec.decode(rows, 100)
    for row, values, sent in zip(rows, x.double().numpy(), decoded, strict=True):
        expected, hit = naive_heavy_sign(values, k, sizes)
        np.testing.assert_allclose(sent, expected, rtol=1e-6)
        assert len(row) == math.ceil(7 * k / 8) + math.ceil(k / 8) + 4 * hit
        assert len(row) <= codec.length(100)
    assert codec.unpadded_bits(100) == k * (1 + 7) + 32 * min(k, len(sizes))


def test_heavy_sign_has_the_error_that_its_scales_imply():
    """‖C(x) − x‖² = ‖x‖² − Σ_g ‖x_{S∩g}‖_1² / |S∩g|."""
    x, sizes = normal(1, 400), [100, 250, 50]
    error = float(((transported(HeavySign(0.2, "random", sizes), x) - x).double() ** 2).sum())
    row, start, explained = x[0].double().numpy(), 0, 0.0
    kept = top(row, 80)
    for size in sizes:
        inside = [j for j in kept if start <= j < start + size]
        start += size
        explained += np.abs(row[inside]).sum() ** 2 / len(inside)
    assert error == pytest.approx((row**2).sum() - explained, rel=1e-6)


@pytest.mark.parametrize(("zero", "values"), [("plus", {2.0}), ("zero", {0.0, 2.0}), ("random", {-2.0, 2.0})])
def test_heavy_sign_of_zeros_follows_sign_zero(zero, values):
    x = torch.zeros(1, 200)
    x[0, 100:] = 4.0
    codec = HeavySign(1.0, zero)
    (row,) = codec.encode(x, streams(1))
    assert len(row) == 200 + 25 * (2 if zero == "zero" else 1) + 4
    assert set(codec.decode([row], 200)[0, :100].tolist()) <= values
    assert set(codec.decode([row], 200)[0, 100:].tolist()) == {2.0}


def refused(codec, rows, d, match, row):
    with pytest.raises(PayloadError, match=match) as error:
        codec.decode(rows, d)
    assert error.value.row == row
    with pytest.raises(PayloadError, match=match) as error:
        codec.mean(rows, d)
    assert error.value.row == row


@pytest.mark.parametrize("codec", [TopK(0.3), HeavySign(0.3, "plus")], ids=["top_k", "heavy_sign"])
@pytest.mark.parametrize("change", ["repeated", "decreasing", "beyond", "padding"])
def test_indices_that_no_client_sends_are_refused(codec, change):
    d, k = 11, 3  # twelve bits of indices
    rows = codec.encode(normal(3, d), streams(3))
    at = 4 * k if isinstance(codec, TopK) else 0
    indices = {"repeated": [0x33, 0x90], "decreasing": [0x43, 0x90], "beyond": [0x34, 0xB0], "padding": [0x34, 0x91]}
    rows[1][at : at + 2] = torch.tensor(indices[change], dtype=torch.uint8)
    refused(codec, rows, d, "padding" if change == "padding" else "do not increase or lie beyond 11", 1)


@pytest.mark.parametrize("change", [0b1000_0000, 0b0000_0001])
def test_bitmap_that_does_not_mark_k_or_has_padding_is_refused(change):
    rows = TopK(0.5, "shortest").encode(torch.tensor([[3.0, 2.0, 1.0, 0, 0, 0], [0, 0, 0, 3.0, 2.0, 1.0]]))
    rows[1][-1] ^= change
    refused(TopK(0.5, "shortest"), rows, 6, "padding" if change == 1 else "not 3 indices", 1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_value_of_top_k_that_is_not_finite_is_refused(value):
    rows = TopK(0.3).encode(normal(3, 11))
    rows[2][4:8] = torch.tensor([value]).view(torch.uint8)
    refused(TopK(0.3), rows, 11, "NaN or infinite", 2)


@pytest.mark.parametrize(("value", "match"), [(math.nan, "NaN or infinite"), (-1.0, "negative")])
def test_illegal_scale_of_heavy_sign_is_refused(value, match):
    codec = HeavySign(0.3, "plus", [5, 6])
    rows = codec.encode(normal(3, 11), streams(3))
    rows[2][-4:] = torch.tensor([value]).view(torch.uint8)
    refused(codec, rows, 11, match, 2)


@pytest.mark.parametrize("change", ["one scale less", "one scale more", "no scales", "short", "empty"])
def test_heavy_sign_of_another_length_is_refused(change):
    codec = HeavySign(0.3, "plus", [5, 6])
    rows = codec.encode(torch.tensor([[1.0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 3]] * 2), streams(2))
    row = rows[1]
    rows[1] = {
        "one scale less": row[:-4],
        "one scale more": torch.cat([row, row[-4:]]),
        "no scales": row[:3],
        "short": row[:2],
        "empty": row[:0],
    }[change]
    refused(codec, rows, 11, "payload", 1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("codec", [TopK(0.3), HeavySign(0.3, "plus")], ids=["top_k", "heavy_sign"])
def test_values_that_are_not_finite_are_not_sent(codec, value):
    x = normal(3, 11)
    x[1, 4] = value
    with pytest.raises(PayloadError, match="NaN or infinite") as error:
        codec.encode(x, streams(3))
    assert error.value.row == 1
