"""Uniform quantisation of [-1, 1]: levels, planes and refusals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsign.codecs import Uniform
from fedsign.errors import PayloadError


def values(n, d, seed):
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("k", [3, 8])
@pytest.mark.parametrize("d", [*range(1, 71), 100_003])
@settings(max_examples=4, deadline=None, derandomize=True)
@given(n=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_nearest_levels_come_back_from_k_bits_a_value(k, d, n, seed):
    x = values(n, d, seed)
    rows = Uniform(k).encode(x)
    assert [len(row) for row in rows] == [k * math.ceil(d / 8)] * n
    top = 2 ** (k - 1) - 1
    assert torch.equal(Uniform(k).decode(rows, d), torch.round(x * top) / top)


@pytest.mark.parametrize("k", [2, 3, 4, 8, 12])
def test_every_level_comes_back_exactly(k):
    top = 2 ** (k - 1) - 1
    levels = torch.arange(-top, top + 1).float()[None] / top
    assert levels.shape[1] == 2**k - 1
    assert torch.equal(Uniform(k).decode(Uniform(k).encode(levels), levels.shape[1]), levels)


@pytest.mark.parametrize("k", [2, 3, 8])
def test_error_is_at_most_half_a_step(k):
    x = values(2, 10_000, 7)
    error = (Uniform(k).decode(Uniform(k).encode(x), 10_000) - x).abs().max().item()
    assert error <= 0.5 / (2 ** (k - 1) - 1) + 1e-6


def test_planes_hold_the_digits_of_the_symbol_highest_first():
    x = torch.tensor([[-1.0, -2 / 3, 0.0, 1 / 3, 1.0]])  # symbols 000, 001, 011, 100, 110
    assert Uniform(3).encode(x)[0].tolist() == [0b00011000, 0b00101000, 0b01100000]


@pytest.mark.parametrize("bad", [1.0001, -1.5, 1e30])
@pytest.mark.parametrize("row", range(3))
def test_values_outside_the_interval_are_refused_with_their_row(bad, row):
    x = values(3, 9, 0)
    x[row, 2] = bad
    with pytest.raises(PayloadError, match=r"outside \[-1, 1\]") as error:
        Uniform(3).encode(x)
    assert error.value.row == row


@pytest.mark.parametrize("plane", range(3))
@pytest.mark.parametrize("row", range(3))
def test_set_padding_bit_of_any_plane_is_refused_with_its_row(plane, row):
    rows = Uniform(3).encode(values(3, 13, 0))
    rows[row][2 * plane + 1] |= 0b010
    with pytest.raises(PayloadError, match="padding") as error:
        Uniform(3).decode(rows, 13)
    assert error.value.row == row


@pytest.mark.parametrize("k", [2, 3, 8])
@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("how", ["decode", "mean"])
def test_symbol_above_the_highest_level_is_refused_with_its_row(k, row, how):
    rows = Uniform(k).encode(torch.zeros(3, 8))
    rows[row][:] = torch.full((k,), 0b00010000, dtype=torch.uint8) | rows[row]
    with pytest.raises(PayloadError, match="no level") as error:
        getattr(Uniform(k), how)(rows, 8)
    assert error.value.row == row
