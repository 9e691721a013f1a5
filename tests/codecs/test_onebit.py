"""Signs and ternary symbols: exact lengths, byte layout and the three conventions for Sign(0)."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsign import codecs
from fedsign.codecs import Sign, Ternary
from fedsign.errors import PayloadError
from fedsign.local.streams import Streams

SIZES = [*range(1, 71), 100_003]
CPU = torch.device("cpu")


def streams(*clients, round=1, seed=0):
    return Streams(seed, round, clients, CPU)


def normal(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def symbols(n, d, seed):
    return torch.randint(-1, 2, (n, d), generator=torch.Generator().manual_seed(seed)).float()


def coins(d, s):
    """What clients send for d zeros: [n, d]."""
    return Sign("random").decode(Sign("random").encode(torch.zeros(len(s.clients), d), s), d)


@pytest.mark.parametrize("zero", ["plus", "random"])
@pytest.mark.parametrize("d", SIZES)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(n=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_signs_come_back_from_one_bit_a_value(zero, d, n, seed):
    x = normal(n, d, seed)
    rows = Sign(zero).encode(x, streams(*range(n)))
    assert [len(row) for row in rows] == [math.ceil(d / 8)] * n
    assert torch.equal(Sign(zero).decode(rows, d), torch.sign(x))


@pytest.mark.parametrize("d", SIZES)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(n=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_ternary_symbols_come_back_from_two_bits_a_value(d, n, seed):
    x = symbols(n, d, seed)
    rows = Ternary().encode(x)
    assert [len(row) for row in rows] == [2 * math.ceil(d / 8)] * n
    assert torch.equal(Ternary().decode(rows, d), x)


def test_sign_byte_has_the_first_value_in_the_highest_place():
    x = torch.tensor([[0.5, -1.0, 2.0, 3.0, -4.0, -5.0, -6.0, 7.0, 8.0, -9.0]])
    assert Sign("plus").encode(x, streams(0))[0].tolist() == [0b10110001, 0b10000000]


def test_ternary_row_is_a_plane_of_non_zeros_then_a_plane_of_positives():
    x = torch.tensor([[3.0, 0.0, -2.0, 0.0, 0.0, 0.0, 0.0, 1e-30, -1e-30]])
    assert Ternary().encode(x)[0].tolist() == [0b10100001, 0b10000000, 0b10000001, 0b00000000]


@pytest.mark.parametrize("row", range(3))
def test_set_padding_bit_of_signs_is_refused_with_its_row(row):
    rows = Sign("plus").encode(normal(3, 13, 0), streams(0, 1, 2))
    rows[row][-1] |= 0b100
    with pytest.raises(PayloadError, match="padding") as error:
        Sign("plus").decode(rows, 13)
    assert error.value.row == row


@pytest.mark.parametrize("plane_end", [1, 3], ids=["non-zeros", "positives"])
@pytest.mark.parametrize("row", range(3))
def test_set_padding_bit_of_a_ternary_plane_is_refused_with_its_row(plane_end, row):
    rows = Ternary().encode(symbols(3, 13, 0))
    rows[row][plane_end] |= 0b001
    with pytest.raises(PayloadError, match="padding") as error:
        Ternary().decode(rows, 13)
    assert error.value.row == row


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("how", ["decode", "mean", "weighted_mean"])
def test_ternary_zero_that_is_marked_positive_is_refused_with_its_row(row, how):
    x = symbols(3, 13, 0)
    x[:, 4] = 0
    rows = Ternary().encode(x)
    rows[row][2] |= 0b00001000
    weights = torch.full((3,), 1 / 3) if how == "weighted_mean" else None
    with pytest.raises(PayloadError, match="zero is marked positive") as error:
        Ternary().decode(rows, 13) if how == "decode" else Ternary().mean(rows, 13, weights)
    assert error.value.row == row


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_plus_sends_a_set_bit_for_zero(zero):
    row = Sign("plus").encode(torch.tensor([[zero, -1.0, zero, 1.0]]), streams(0))[0]
    assert row.tolist() == [0b10110000]


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_ternary_keeps_zero(zero):
    x = torch.tensor([[zero, -1.0, zero, 1.0]])
    assert Ternary().decode(Ternary().encode(x), 4).tolist() == [[0.0, -1.0, 0.0, 1.0]]


def test_random_sign_of_zero_is_a_fair_coin():
    d = 100_000
    mean = coins(d, streams(*range(6))).mean(dim=1)
    assert (mean.abs() < 5 / math.sqrt(d)).all()  # SE of a mean of d signs: 1/sqrt(d)


def test_random_signs_of_zero_of_two_clients_are_uncorrelated():
    d = 100_000
    a, b = coins(d, streams(3, 4))
    assert abs((a * b).mean()) < 5 / math.sqrt(d)  # SE of a mean of d products of signs: 1/sqrt(d)


def test_random_sign_of_zero_is_the_same_when_asked_twice():
    s = streams(0, 1, 2)
    assert torch.equal(coins(500, s), coins(500, s))


def test_random_sign_of_zero_does_not_depend_on_the_other_clients():
    assert torch.equal(coins(500, streams(8, 5, 2))[1], coins(500, streams(5))[0])


@pytest.mark.parametrize("other", [{"round": 2}, {"seed": 1}], ids=["round", "seed"])
def test_random_sign_of_zero_differs_between_rounds_and_seeds(other):
    assert not torch.equal(coins(500, streams(5)), coins(500, streams(5, **other)))


def test_random_sign_of_a_zero_does_not_depend_on_the_other_values():
    x = symbols(3, 200, 1)
    s = streams(4, 5, 6)
    decoded = Sign("random").decode(Sign("random").encode(x, s), 200)
    assert torch.equal(decoded, torch.where(x == 0, coins(200, s), x))


@pytest.mark.parametrize("zero", ["plus", "random", "zero"])
@pytest.mark.parametrize(
    "x", [normal(4, 99, 0), torch.zeros(4, 99), symbols(4, 99, 0)], ids=["normal", "zeros", "mixed"]
)
def test_values_of_signs_are_what_the_codec_transports(zero, x):
    s = streams(9, 0, 3, 1)
    codec = codecs.sign(zero)
    assert torch.equal(codecs.signs(x, zero, s), codec.decode(codec.encode(x, s), 99))


@pytest.mark.parametrize("zero", ["plus", "random", "zero"])
def test_values_of_signs_leave_the_input_alone(zero):
    x = symbols(2, 30, 2)
    before = x.clone()
    codecs.signs(x, zero, streams(0, 1))
    assert torch.equal(x, before)


@pytest.mark.parametrize(("zero", "bytes_of_nine"), [("plus", 2), ("random", 2), ("zero", 4)])
def test_only_sign_zero_is_priced_at_two_bits(zero, bytes_of_nine):
    assert codecs.sign(zero).length(9) == bytes_of_nine
