"""Masks: one bit each, drawn or thresholded."""

import math

import pytest
import torch

from fedsign.codecs import Mask
from fedsign.errors import PayloadError
from fedsign.local.streams import Streams


def streams(n, seed=0):
    return Streams(seed, 1, range(n), torch.device("cpu"))


def fair(n, d, seed=0):
    return (torch.rand(n, d, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


@pytest.mark.parametrize("d", [1, 7, 8, 9, 64, 1003])
def test_masks_come_back_from_one_bit_a_value(d):
    m = fair(3, d)
    for rows in (Mask().threshold(2 * m - 1), Mask().sample(m, streams(3))):
        assert [len(row) for row in rows] == [math.ceil(d / 8)] * 3
        assert torch.equal(Mask().decode(rows, d), m)


def test_a_score_of_zero_is_masked_out():
    assert Mask().decode(Mask().threshold(torch.tensor([[0.0, -0.0, 1e-40, -1e-40]])), 4).tolist() == [[0, 0, 1, 0]]


@pytest.mark.parametrize("p", [0.0, 0.01, 0.3, 0.5, 0.9, 1.0])
def test_masks_are_one_with_the_given_probability(p):
    d = 200_000
    m = Mask().decode(Mask().sample(torch.full((2, d), p), streams(2)), d)
    for row in m:
        assert abs(row.double().mean() - p) <= 5 * math.sqrt(p * (1 - p) / d)
    assert p in (0, 1) or not torch.equal(m[0], m[1])


@pytest.mark.parametrize("n", [1, 2, 9, 64])
@pytest.mark.parametrize("d", [1, 8, 1001])
def test_mean_is_exactly_that_of_the_decoded_masks(n, d):
    rows = Mask().threshold(fair(n, d) - 0.5)
    m = Mask().decode(rows, d)
    assert torch.equal(Mask().mean(rows, d), m.sum(dim=0) / n)
    weights = torch.arange(1.0, n + 1) / (n * (n + 1) / 2)
    torch.testing.assert_close(Mask().mean(rows, d, weights), weights @ m)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("encode", [Mask().threshold, lambda p: Mask().sample(p, streams(3))])
def test_values_that_are_not_finite_are_refused(encode, value):
    p = torch.full((3, 5), 0.5)
    p[1, 2] = value
    with pytest.raises(PayloadError, match="NaN or infinite") as caught:
        encode(p)
    assert caught.value.row == 1


@pytest.mark.parametrize("read", [Mask().decode, Mask().mean])
def test_a_wrong_length_or_padding_is_refused(read):
    rows = Mask().threshold(fair(3, 13))
    with pytest.raises(PayloadError, match="expected 2 bytes") as caught:
        read([rows[0], rows[1][:1], rows[2]], 13)
    assert caught.value.row == 1
    rows[2] = rows[2] | torch.tensor([0, 1], dtype=torch.uint8)
    with pytest.raises(PayloadError, match="padding") as caught:
        read(rows, 13)
    assert caught.value.row == 2
