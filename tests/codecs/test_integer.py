"""Integers of a known range: bits, exactness and refusals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsign.codecs import Float32, Integer, encode_each, mean_of_each
from fedsign.errors import PayloadError


def integers(low, high, n, d, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(low, high, (n, d), endpoint=True)).float()


@pytest.mark.parametrize(
    ("low", "high", "k"), [(0, 1, 1), (-1, 1, 2), (0, 10, 4), (0, 31, 5), (-50, 50, 7), (-64, 64, 8)]
)
def test_as_many_bits_as_the_range_needs(low, high, k):
    assert k == math.ceil(math.log2(high - low + 1))
    rows = Integer(low, high).encode(integers(low, high, 3, 100))
    assert [8 * len(row) for row in rows] == [k * 104] * 3  # planes of 100 bits in whole bytes


@pytest.mark.parametrize("E", [1, 2, 3, 7, 8, 50, 500, 100_000])
@pytest.mark.parametrize("d", [1, 7, 8, 64, 1003])
@settings(max_examples=4, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_integers_come_back_exactly(E, d, seed):
    x = integers(-E, E, 4, d, seed)
    x[0, 0], x[-1, -1] = -E, E
    rows = Integer(-E, E).encode(x)
    assert [len(row) for row in rows] == [math.ceil(math.log2(2 * E + 1)) * math.ceil(d / 8)] * 4
    assert torch.equal(Integer(-E, E).decode(rows, d), x)


def test_mean_is_of_the_exact_integer_sum():
    E = [1, 2, 5, 50, 500, 1000, 3, 7]
    x = torch.cat([integers(-e, e, 1, 2001, e) for e in E])
    codecs = [Integer(-e, e) for e in E]
    mean = mean_of_each(codecs, encode_each(codecs, x), 2001)
    exact = x.numpy().astype(np.int64).sum(axis=0)
    np.testing.assert_array_equal(mean.numpy(), exact.astype(np.float32) / np.float32(len(E)))


def test_planes_hold_the_digits_of_the_distance_to_the_lowest_highest_first():
    x = torch.tensor([[-2.0, -1.0, 0.0, 1.0, 2.0]])  # 000, 001, 010, 011, 100
    assert Integer(-2, 2).encode(x)[0].tolist() == [0b00001000, 0b00110000, 0b01010000]


@pytest.mark.parametrize("bad", [3.0, -3.0, 0.5, 1e30])
@pytest.mark.parametrize("row", range(3))
def test_a_value_that_is_no_integer_of_the_range_is_not_sent(bad, row):
    x = integers(-2, 2, 3, 9)
    x[row, 4] = bad
    with pytest.raises(PayloadError, match=r"not integers in -2\.\.2") as error:
        Integer(-2, 2).encode(x)
    assert error.value.row == row


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_not_sent(bad):
    x = integers(-2, 2, 3, 9)
    x[1, 4] = bad
    with pytest.raises(PayloadError, match="NaN or infinite") as error:
        Integer(-2, 2).encode(x)
    assert error.value.row == 1


@pytest.mark.parametrize("bad", [3, 2.5, math.nan])
@pytest.mark.parametrize("row", range(3))
def test_rows_of_their_own_codecs_are_named_when_refused(bad, row):
    x = torch.zeros(3, 9)
    x[row, 4] = bad
    with pytest.raises(PayloadError) as error:
        encode_each([Integer(-2, 2)] * 3, x)
    assert error.value.row == row


@pytest.mark.parametrize("E", [1, 2, 3, 5, 50])
@pytest.mark.parametrize("row", range(3))
def test_a_symbol_beyond_the_range_is_refused_with_its_row(E, row):
    """2E + 1 is no power of two: the bits of a client could say more than it may."""
    rows = Integer(-E, E).encode(torch.zeros(3, 8))
    rows[row][:] |= 0b00010000
    for decode in (Integer(-E, E).decode, Integer(-E, E).mean):
        with pytest.raises(PayloadError, match=f"not in -{E}..{E}") as error:
            decode(rows, 8)
        assert error.value.row == row


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("other", [2, 50])
def test_a_row_of_another_range_has_another_length_and_is_refused(row, other):
    codecs = [Integer(-5, 5)] * 3
    rows = encode_each(codecs, torch.zeros(3, 13))
    rows[row] = Integer(-other, other).encode(torch.zeros(1, 13))[0]
    with pytest.raises(PayloadError, match="expected 8 bytes") as error:
        mean_of_each(codecs, rows, 13)
    assert error.value.row == row


@pytest.mark.parametrize("plane", range(4))
def test_set_padding_bit_of_any_plane_is_refused(plane):
    rows = Integer(-5, 5).encode(torch.zeros(2, 13))
    rows[1][2 * plane + 1] |= 0b010
    with pytest.raises(PayloadError, match="padding") as error:
        Integer(-5, 5).decode(rows, 13)
    assert error.value.row == 1


def test_mean_of_each_takes_weights_and_mixes_codecs():
    x = torch.tensor([[2.0, -2.0], [0.5, 0.25]])
    rows = [*Integer(-2, 2).encode(x[:1]), *Float32().encode(x[1:])]
    mean = mean_of_each([Integer(-2, 2), Float32()], rows, 2, torch.tensor([0.25, 0.75]))
    assert mean.tolist() == [0.875, -0.3125]


def test_shapes_follow_on_the_meta_device():
    rows = Integer(-5, 5).encode(torch.zeros(2, 13, device="meta"))
    assert [len(row) for row in rows] == [8, 8]
    assert Integer(-5, 5).decode(rows, 13).shape == (2, 13)
