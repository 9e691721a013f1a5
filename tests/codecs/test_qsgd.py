"""QSGD: its law, its levels, its norms, its length and its refusals."""

import math

import numpy as np
import pytest
import torch

from fedsign.codecs import QSGD
from fedsign.errors import PayloadError
from fedsign.local.streams import Streams

NORM = {"l2": 2, "linf": math.inf}
every_norm = pytest.mark.parametrize("norm", NORM)


def streams(n, t=1):
    return Streams(5, t, range(n), torch.device("cpu"))


def values(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def sent(codec, x, t=1):
    """What arrives of x [n, d]."""
    return codec.decode(codec.encode(x, streams(len(x), t)), x.shape[1])


def repeated(codec, v, repeats):
    """Q(v) [repeats, len(v)] for as many clients that hold the same v."""
    return sent(codec, torch.tensor(v)[None].expand(repeats, -1)).double().numpy()


@every_norm
@pytest.mark.parametrize(("s", "k"), [(1, 2), (2, 3), (3, 3), (4, 4), (7, 4), (8, 5), (127, 8), (128, 9)])
@pytest.mark.parametrize("d", [1, 8, 9, 1000])
def test_row_has_the_symbols_and_a_norm(norm, s, k, d):
    assert k == math.ceil(math.log2(2 * s + 1))
    rows = QSGD(s, norm).encode(values(2, d), streams(2))
    assert [len(row) for row in rows] == [QSGD(s, norm).length(d)] * 2 == [4 + k * math.ceil(d / 8)] * 2


def test_every_group_has_a_norm():
    codec = QSGD(1, "l2", [3, 10, 1, 20])
    x = values(3, 34)
    rows = codec.encode(x, streams(3))
    assert [len(row) for row in rows] == [codec.length(34)] * 3 == [4 * 4 + 2 * 5] * 3
    norms = torch.stack([row[:16].clone().view(torch.float32) for row in rows])
    for i, group in enumerate(x.split([3, 10, 1, 20], dim=1)):
        np.testing.assert_allclose(norms[:, i], np.linalg.norm(group, axis=1), rtol=1e-6)


@every_norm
@pytest.mark.parametrize("s", [1, 2, 5, 64])
def test_values_are_the_two_levels_around(norm, s):
    x = values(4, 500)
    got = sent(QSGD(s, norm), x)
    scale = torch.linalg.vector_norm(x, NORM[norm], dim=1, keepdim=True)
    level, exact = s * got / scale, s * x.abs() / scale
    np.testing.assert_allclose(level, level.round(), atol=1e-4 * s)
    assert (level.abs().round() >= exact.floor() - 1e-4).all()
    assert (level.abs().round() <= exact.ceil() + 1e-4).all()
    assert (got * x >= 0).all()


@every_norm
@pytest.mark.parametrize("sizes", [None, [2, 4]])
@pytest.mark.parametrize("s", [1, 2, 3])
def test_it_is_unbiased_and_has_the_exact_variance(norm, s, sizes):
    """A level is ℓ + Bernoulli(p), so that E Q = x and Var Q = (‖x‖/s)² p (1−p); both means to five standard errors."""
    v, repeats = [0.9, -0.05, 0.0, 0.3, -1.4, 0.001], 40_000
    got = repeated(QSGD(s, norm, sizes), v, repeats)
    for group in np.split(np.arange(6), [] if sizes is None else [2]):
        x = np.array(v, dtype=np.float32).astype(np.float64)[group]
        step = np.linalg.norm(x, NORM[norm]) / s
        p = (np.abs(x) / step) % 1
        variance = step**2 * p * (1 - p)
        assert (np.abs(got[:, group].mean(axis=0) - x) <= 5 * np.sqrt(variance / repeats) + 1e-6).all()
        squares = (got[:, group] - x) ** 2
        fourth = step**4 * (p * (1 - p) ** 4 + (1 - p) * p**4)
        error = 5 * np.sqrt((fourth - variance**2).clip(0) / repeats) + 1e-6
        assert (np.abs(squares.mean(axis=0) - variance) <= error).all()


@every_norm
def test_one_level_has_the_error_of_the_closed_form(norm):
    """E‖Q − x‖² = ‖x‖ ‖x‖_1 − ‖x‖_2² for s = 1: with ℓ2 QSGD's identity, with ℓ∞ TernGrad's."""
    x = values(1, 64).double().numpy()[0]
    repeats = 20_000
    got = repeated(QSGD(1, norm), x.astype(np.float32), repeats)
    scale = np.linalg.norm(x, NORM[norm])
    expected = scale * np.abs(x).sum() - (x**2).sum()
    p = np.abs(x) / scale
    fourth = scale**4 * (p * (1 - p) ** 4 + (1 - p) * p**4)
    variance = (fourth - (scale**2 * p * (1 - p)) ** 2).sum()
    assert abs(((got - x) ** 2).sum(axis=1).mean() - expected) < 5 * math.sqrt(variance / repeats) + 1e-5


@pytest.mark.parametrize("s", [1, 4, 16, 256])
def test_error_of_l2_is_bounded_as_the_theory_says(s):
    x = values(1, 2000).double().numpy()[0]
    got = repeated(QSGD(s, "l2"), x.astype(np.float32), 200)
    bound = min(2000 / s**2, math.sqrt(2000) / s)
    assert ((got - x) ** 2).sum(axis=1).mean() < bound * (x**2).sum()


@every_norm
def test_zero_is_sent_as_zero(norm):
    x = torch.zeros(2, 30)
    x[1, :4] = 1.0
    got = sent(QSGD(3, norm, [4, 26]), x)
    assert not got[0].any()
    assert not got[1, 4:].any()
    assert got[1, :4].any()


@every_norm
def test_zero_is_the_middle_symbol(norm):
    (row,) = QSGD(3, norm).encode(torch.zeros(1, 8), streams(1))
    assert row.tolist() == [0, 0, 0, 0, 0b00000000, 0b11111111, 0b11111111]  # 0.0 and eight times 011


@every_norm
def test_levels_of_a_lone_value_are_exact(norm):
    """Its probability is 1, whatever the draw."""
    x = torch.zeros(1, 100_000)
    x[0, 7] = -0.3
    for s in (1, 3, 7):
        assert torch.equal(sent(QSGD(s, norm), x), x)


def test_equal_magnitudes_are_exact_in_linf():
    x = 0.7 * torch.where(values(1, 100_000) > 0, 1.0, -1.0)
    for s in (1, 3, 100):
        np.testing.assert_allclose(sent(QSGD(s, "linf"), x), x, rtol=1e-6)


@every_norm
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_passes_through(norm, scale):
    """Squares of the values would leave the range of float32."""
    x = values(2, 300)
    np.testing.assert_allclose(sent(QSGD(2, norm), scale * x) / scale, sent(QSGD(2, norm), x), rtol=1e-4, atol=1e-6)


@every_norm
def test_many_levels_leave_the_values(norm):
    x = values(2, 300)
    bound = torch.linalg.vector_norm(x, NORM[norm], dim=1, keepdim=True) / 32767
    assert ((sent(QSGD(32767, norm), x) - x).abs() <= 1.01 * bound).all()


def test_draws_are_each_clients_own():
    x = values(1, 400).expand(3, -1)
    rows = QSGD(1, "linf").encode(x, streams(3))
    assert not torch.equal(rows[0], rows[1])
    alone = QSGD(1, "linf").encode(x[:1], Streams(5, 1, [2], torch.device("cpu")))
    assert torch.equal(alone[0], rows[2])


@pytest.mark.parametrize("s", [1, 2, 3])
def test_symbols_of_no_level_are_refused_with_their_row(s):
    """Flipping every bit of a symbol 0 (the most negative level) gives such a symbol."""
    x = -torch.ones(3, 16)
    rows = QSGD(s, "linf").encode(x, streams(3))
    rows[1][4:] ^= 255
    with pytest.raises(PayloadError, match="no level") as error:
        QSGD(s, "linf").decode(rows, 16)
    assert error.value.row == 1


@pytest.mark.parametrize(
    ("norm", "message"), [(math.nan, "NaN"), (math.inf, "infinite"), (-1.0, "negative")], ids=["nan", "inf", "negative"]
)
def test_illegal_norms_are_refused_with_their_row(norm, message):
    rows = QSGD(1, "l2").encode(values(3, 16), streams(3))
    rows[2][:4] = torch.tensor([norm]).view(torch.uint8)
    with pytest.raises(PayloadError, match=message) as error:
        QSGD(1, "l2").decode(rows, 16)
    assert error.value.row == 2


def test_a_norm_beyond_float32_is_refused():
    with pytest.raises(PayloadError, match="infinite"):
        QSGD(1, "l2").encode(torch.full((1, 100), 3e38), streams(1))


def test_padding_is_refused_with_its_row():
    rows = QSGD(1, "l2").encode(values(3, 13), streams(3))
    rows[1][-1] |= 1
    with pytest.raises(PayloadError, match="padding") as error:
        QSGD(1, "l2").decode(rows, 13)
    assert error.value.row == 1


def test_shapes_are_known_without_values():
    """As for a device that holds none: nothing is read back."""
    codec = QSGD(2, "l2", [5, 6])
    rows = [torch.empty(codec.length(11), dtype=torch.uint8, device="meta")] * 2
    assert codec.decode(rows, 11).shape == (2, 11)
