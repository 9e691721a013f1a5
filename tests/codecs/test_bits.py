"""Packed bits: layout, padding and the count of votes, on either back end."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsign.codecs import bits
from fedsign.errors import PayloadError

SIZES = [*range(1, 71), 100_003]


def booleans(n, d, seed):
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed)) < 0.5


class OffHost(torch.Tensor):
    """A tensor in host memory that says it lies on a GPU."""

    @property
    def device(self):
        return torch.device("cuda")


@pytest.fixture
def off_host(monkeypatch):
    """Make a tensor take the branch for other devices, on the host."""
    places = bits._places
    monkeypatch.setattr(bits, "_places", lambda device: places(torch.device("cpu")))
    return lambda tensor: tensor.as_subclass(OffHost)


@pytest.mark.parametrize(("d", "length"), [(1, 1), (7, 1), (8, 1), (9, 2), (16, 2), (17, 3), (100_003, 12_501)])
def test_packed_length_rounds_up_to_bytes(d, length):
    assert bits.packed_length(d) == length


@pytest.mark.parametrize("d", SIZES)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(n=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_unpacking_gives_the_packed_bits(d, n, seed):
    x = booleans(n, d, seed)
    packed = bits.pack(x)
    assert packed.dtype == torch.uint8
    assert packed.shape == (n, -(-d // 8))
    assert torch.equal(bits.unpack(packed, d), x)


def test_first_bit_takes_the_highest_place_and_padding_is_zero():
    x = torch.tensor([[1, 0, 1, 1, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 1, 0, 1]], dtype=torch.bool)
    assert bits.pack(x).tolist() == [[0b10110001, 0b11000000], [0b00000001, 0b01000000]]


def test_off_host_branch_has_the_same_layout(off_host):
    x = off_host(torch.tensor([[1, 0, 1, 1, 0, 0, 0, 1, 1, 1]], dtype=torch.bool))
    assert bits.pack(x).as_subclass(torch.Tensor).tolist() == [[0b10110001, 0b11000000]]


@pytest.mark.parametrize("d", [*range(1, 26), 64, 100_003])
def test_off_host_branch_packs_and_unpacks_as_numpy_does(off_host, d):
    x = booleans(5, d, d)
    packed = bits.pack(off_host(x)).as_subclass(torch.Tensor)
    assert torch.equal(packed, bits.pack(x))
    unpacked = bits.unpack(off_host(packed), d).as_subclass(torch.Tensor)
    assert unpacked.dtype == torch.bool
    assert torch.equal(unpacked, x)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_shapes_are_known_without_values(device):
    packed = bits.pack(torch.empty(3, 11, dtype=torch.bool, device=device))
    assert packed.shape == (3, 2)
    assert bits.unpack(packed, 11).shape == (3, 11)


@pytest.mark.parametrize("d", range(1, 17))
def test_packed_rows_have_clear_padding(d):
    bits.check_padding(bits.pack(torch.ones(3, d, dtype=torch.bool)), d)


@pytest.mark.parametrize("padding_bit", range(5))
@pytest.mark.parametrize("row", range(3))
def test_each_set_padding_bit_is_refused_with_its_row(padding_bit, row):
    data = bits.pack(torch.ones(3, 11, dtype=torch.bool))
    data[row, -1] |= 1 << padding_bit
    with pytest.raises(PayloadError, match="padding") as error:
        bits.check_padding(data, 11)
    assert error.value.row == row


@pytest.mark.parametrize("n", range(1, 131))
def test_count_is_the_number_of_set_bits(n):
    x = booleans(n, 77, n)
    total = bits.count(list(bits.pack(x)), 77)
    assert total.dtype == torch.int32
    assert torch.equal(total, x.sum(dim=0).to(torch.int32))


@pytest.mark.parametrize("n", [*range(1, 10), 63, 64, 65, 127, 128, 129, 255, 256, 257])
def test_count_of_rows_that_are_all_set_reaches_their_number(n):
    row = bits.pack(torch.ones(1, 13, dtype=torch.bool))[0]
    assert bits.count([row] * n, 13).tolist() == [n] * 13


@pytest.mark.parametrize("d", SIZES)
def test_count_holds_for_every_length(d):
    x = booleans(7, d, d)
    assert torch.equal(bits.count(list(bits.pack(x)), d), x.sum(dim=0).to(torch.int32))


def test_count_leaves_the_rows_as_they_were():
    rows = list(bits.pack(booleans(6, 128, 0)))
    before = [row.clone() for row in rows]
    bits.count(rows, 128)
    assert all(torch.equal(row, b) for row, b in zip(rows, before, strict=True))


@pytest.mark.parametrize("offset", range(9))
def test_count_takes_rows_that_start_anywhere_in_memory(offset):
    x = booleans(1, 64, offset)
    buffer = torch.full((32,), 255, dtype=torch.uint8)
    buffer[offset : offset + 8] = bits.pack(x)[0]
    assert torch.equal(bits.count([buffer[offset : offset + 8]], 64), x[0].to(torch.int32))
