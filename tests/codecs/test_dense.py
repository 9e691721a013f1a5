"""Full precision: four bytes a value, bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedsign.codecs import Float32
from fedsign.errors import PayloadError

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
shapes = st.tuples(st.integers(1, 9), st.integers(1, 70))


def round_trip(x):
    return Float32().decode(Float32().encode(x), x.shape[1])


def same_bits(a, b):
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(x=arrays(np.float32, shapes, elements=floats))
def test_any_finite_values_come_back_bit_for_bit(x):
    x = torch.from_numpy(x)
    assert same_bits(round_trip(x), x)


@pytest.mark.parametrize("d", [*range(1, 71), 100_003])
@settings(max_examples=5, deadline=None, derandomize=True)
@given(n=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_every_size_comes_back_and_takes_four_bytes_a_value(d, n, seed):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    assert [len(row) for row in Float32().encode(x)] == [4 * d] * n
    assert same_bits(round_trip(x), x)


def test_smallest_largest_and_signed_zero_come_back():
    x = torch.tensor([[2.0**-149, -(2.0**-149), 3.4028234663852886e38, -0.0, 0.0]])
    assert same_bits(round_trip(x), x)


def test_bytes_are_ieee_little_endian():
    row = Float32().encode(torch.tensor([[1.0, -2.5]]))[0]
    assert row.tolist() == [0x00, 0x00, 0x80, 0x3F, 0x00, 0x00, 0x20, 0xC0]


def test_columns_of_a_larger_matrix_are_encoded_as_they_read():
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).T
    assert torch.equal(round_trip(x), x)


def test_double_precision_is_rounded_and_what_overflows_is_refused():
    x = torch.tensor([[0.1], [0.2]], dtype=torch.float64)
    assert torch.equal(round_trip(x), x.float())
    x[1] = 1e39
    with pytest.raises(PayloadError) as error:
        Float32().encode(x)
    assert error.value.row == 1


@pytest.mark.parametrize(
    "word", [[0, 0, 0x80, 0x7F], [0, 0, 0x80, 0xFF], [1, 0, 0xC0, 0x7F]], ids=["inf", "-inf", "nan"]
)
@pytest.mark.parametrize("row", range(3))
def test_bytes_of_a_value_that_is_not_finite_are_refused_with_their_row(word, row):
    rows = Float32().encode(torch.zeros(3, 5))
    rows[row][8:12] = torch.tensor(word, dtype=torch.uint8)
    with pytest.raises(PayloadError, match="NaN or infinite") as error:
        Float32().decode(rows, 5)
    assert error.value.row == row
