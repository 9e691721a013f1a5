"""Scaled signs: a sign per value, a mean magnitude per group."""

import math

import numpy as np
import pytest
import torch

from fedsign import codecs
from fedsign.codecs import Float32, HeavySign, ScaledSign, TopK
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
