"""Masks: one bit each."""

import math

import pytest
import torch

from fedsign.codecs import Mask
from fedsign.errors import PayloadError


def fair(n, d, seed=0):
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed)) < 0.5


@pytest.mark.parametrize("d", [1, 7, 8, 9, 64, 1003])
def test_masks_come_back_from_one_bit_a_value(d):
    m = fair(3, d)
    rows = Mask().encode(m)
    assert [len(row) for row in rows] == [math.ceil(d / 8)] * 3
    assert torch.equal(Mask().decode(rows, d), m.float())


@pytest.mark.parametrize("n", [1, 2, 9, 64])
@pytest.mark.parametrize("d", [1, 8, 1001])
def test_mean_is_exactly_that_of_the_decoded_masks(n, d):
    rows = Mask().encode(fair(n, d))
    m = Mask().decode(rows, d)
    assert torch.equal(Mask().mean(rows, d), m.sum(dim=0) / n)
    weights = torch.arange(1.0, n + 1) / (n * (n + 1) / 2)
    torch.testing.assert_close(Mask().mean(rows, d, weights), weights @ m)


@pytest.mark.parametrize("read", [Mask().decode, Mask().mean])
def test_a_wrong_length_or_padding_is_refused(read):
    rows = Mask().encode(fair(3, 13))
    with pytest.raises(PayloadError, match="expected 2 bytes") as caught:
        read([rows[0], rows[1][:1], rows[2]], 13)
    assert caught.value.row == 1
    rows[2] = rows[2] | torch.tensor([0, 1], dtype=torch.uint8)
    with pytest.raises(PayloadError, match="padding") as caught:
        read(rows, 13)
    assert caught.value.row == 2
