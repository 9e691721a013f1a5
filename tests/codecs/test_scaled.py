"""Scaled signs: a sign per value, a mean magnitude per group."""

import math

import numpy as np
import pytest
import torch

from fedsign import codecs
from fedsign.codecs import Float32, HeavySign, ScaledSign, StochasticSign, TopK
from fedsign.errors import PayloadError
from fedsign.local.streams import Streams

GROUPS = [None, [30], [1, 29], [8, 8, 8, 6], [1] * 30]


def streams(n):
    return Streams(0, 1, range(n), torch.device("cpu"))


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def transported(codec, x):
    return codec.decode(codec.encode(x, streams(len(x))), x.shape[1])


@pytest.mark.parametrize("sizes", GROUPS)
def test_every_group_becomes_its_mean_magnitude_with_signs(sizes):
    x = normal(4, 30)
    sent = transported(ScaledSign("random", sizes), x)
    for row, values in zip(sent, x.double().numpy(), strict=True):
        groups = np.split(values, np.cumsum(sizes or [30])[:-1])
        expected = np.concatenate([np.sign(g) * np.mean(np.abs(g)) for g in groups])
        np.testing.assert_allclose(row, expected, rtol=1e-6)


@pytest.mark.parametrize("zero", ["random", "plus", "zero"])
@pytest.mark.parametrize("sizes", GROUPS)
def test_row_takes_a_bit_a_value_and_32_a_group(sizes, zero):
    codec, planes = ScaledSign(zero, sizes), 2 if zero == "zero" else 1
    (row,) = codec.encode(normal(1, 30), streams(1))
    assert codec.unpadded_bits(30) == planes * 30 + 32 * len(sizes or [30][:1])
    assert len(row) == codec.length(30) == planes * 4 + 4 * len(sizes or [30][:1])


def test_row_is_the_scales_then_the_signs():
    (row,) = ScaledSign("plus", [2, 3]).encode(torch.tensor([[1.0, -3.0, 0.0, 6.0, -6.0]]), streams(1))
    assert row[:8].view(torch.float32).tolist() == [2.0, 4.0]
    assert row[8:].tolist() == [0b10110000]


@pytest.mark.parametrize("sizes", GROUPS)
def test_error_is_what_the_scales_leave(sizes):
    """‖C(x) − x‖² = Σ_g (‖x_g‖² − ‖x_g‖_1² / d_g), so a contraction by the smallest 1/d_g at least."""
    sizes = sizes or [30]
    for x in (normal(9, 30), normal(9, 30).exp(), torch.eye(30)):
        error = ((transported(ScaledSign("random", sizes), x) - x).double() ** 2).sum(dim=1)
        groups = x.double().split(sizes, dim=1)
        left = sum((g**2).sum(dim=1) - g.abs().sum(dim=1) ** 2 / g.shape[1] for g in groups)
        assert (error <= (1 - 1 / max(sizes)) * (x.double() ** 2).sum(dim=1) + 1e-5).all()
        np.testing.assert_allclose(error, left, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("zero", "values"), [("plus", {2.0}), ("zero", {0.0}), ("random", {-2.0, 2.0})])
def test_zeros_follow_sign_zero(zero, values):
    x = torch.zeros(1, 200)
    x[0, 100:] = 4.0
    assert set(transported(ScaledSign(zero), x)[0, :100].tolist()) == values


def test_group_of_zeros_is_sent_as_zeros():
    x = torch.zeros(1, 40)
    x[0, 20:] = 1.0
    assert torch.equal(transported(ScaledSign("random", [20, 20]), x), x)


@pytest.mark.parametrize(
    ("value", "match"), [(math.nan, "NaN or infinite"), (math.inf, "NaN or infinite"), (-0.5, "scale is negative")]
)
def test_illegal_scale_is_refused_with_its_row(value, match):
    codec = ScaledSign("plus", [5, 6])
    rows = codec.encode(normal(3, 11), streams(3))
    rows[1][4:8] = torch.tensor([value]).view(torch.uint8)
    for read in (codec.decode, codec.mean):
        with pytest.raises(PayloadError, match=match) as error:
            read(rows, 11)
        assert error.value.row == 1


def test_padding_is_refused_with_its_row():
    codec = ScaledSign("plus", [5, 6])
    rows = codec.encode(normal(3, 11), streams(3))
    rows[2][-1] |= 1
    with pytest.raises(PayloadError, match="padding") as error:
        codec.decode(rows, 11)
    assert error.value.row == 2


@pytest.mark.parametrize(
    ("name", "kind"), [("topk", TopK), ("sign", ScaledSign), ("heavy_sign", HeavySign), ("identity", Float32)]
)
def test_a_method_names_its_codec(name, kind):
    codec = codecs.chosen(name, [10, 20], ratio=0.1, sign_zero="plus")
    assert isinstance(codec, kind)
    groups = {"topk": 3 * (32 + 5), "sign": 30 + 64, "heavy_sign": 3 * (1 + 5) + 64, "identity": 32 * 30}
    assert codec.unpadded_bits(30) == groups[name]


def drawn(c, v, n):
    """What arrives of v [d] from n clients, float64 [n, d]."""
    x = torch.tensor(v)[None].expand(n, -1)
    codec = StochasticSign(c)
    return codec.decode(codec.encode(x, streams(n)), len(v)).double().numpy()


@pytest.mark.parametrize("c", [0.5, 1.0, 2.0, 8.0])
def test_stochastic_sign_has_the_clipped_mean_and_the_exact_variance(c):
    """E = clip(x, −a, a) and Var = a² − E², a = c mean|x|: both to five standard errors."""
    v, n = [0.9, -0.05, 0.0, 0.3, -1.4, 0.001], 40_000
    got = drawn(c, v, n)
    a = c * np.mean(np.abs(np.array(v)))
    np.testing.assert_allclose(np.abs(got), a, rtol=1e-6)
    mean = np.clip(v, -a, a)
    variance = a**2 - mean**2
    assert (np.abs(got.mean(axis=0) - mean) <= 5 * np.sqrt(variance / n) + 1e-6).all()
    assert (
        np.abs(((got - mean) ** 2).mean(axis=0) - variance) <= 10 * np.abs(mean) * np.sqrt(variance / n) + 1e-5
    ).all()


def test_stochastic_sign_has_a_scale_per_group_and_a_bit_a_value():
    x = torch.randn(2, 30, generator=torch.Generator().manual_seed(0))
    codec = StochasticSign(2.0, [10, 20])
    rows = codec.encode(x, streams(2))
    assert [8 * len(row) for row in rows] == [2 * 32 + 32] * 2
    assert codec.unpadded_bits(30) == 2 * 32 + 30
    got = codec.decode(rows, 30).abs()
    np.testing.assert_allclose(got[:, 0], 2 * x[:, :10].abs().mean(dim=1), rtol=1e-6)
    np.testing.assert_allclose(got[:, 29], 2 * x[:, 10:].abs().mean(dim=1), rtol=1e-6)


def test_stochastic_sign_of_zero_is_zero():
    assert not drawn(2.0, [0.0] * 9, 3).any()


def test_stochastic_sign_of_values_that_are_not_finite_is_refused():
    x = torch.ones(3, 9)
    x[1, 2] = math.nan
    with pytest.raises(PayloadError, match="NaN") as error:
        StochasticSign(2.0).encode(x, streams(3))
    assert error.value.row == 1
