"""What all codecs share: exact lengths, refusals that name the row, and a mean with one order of summation."""

import pytest
import torch

from fedsign.codecs import QSGD, Float32, Hadamard, Integer, Sign, StochasticSign, Ternary, Uniform, encode_each
from fedsign.codecs.codec import finite
from fedsign.errors import NotFiniteError, PayloadError
from fedsign.local.streams import Streams

CODECS = {
    "float32": Float32(),
    "sign_plus": Sign("plus"),
    "sign_random": Sign("random"),
    "ternary": Ternary(),
    "uniform_2": Uniform(2),
    "uniform_3": Uniform(3),
    "uniform_8": Uniform(8),
    "qsgd_1": QSGD(1, "linf"),
    "qsgd_5": QSGD(5, "l2"),
    "stochastic_sign": StochasticSign(2.0),
    "hadamard_1": Hadamard(1, "mse"),
    "hadamard_3": Hadamard(3, "unbiased"),
}
every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())


def encoded(codec, x):
    """Encode, with the clients 0, 1, ... of round 1 where the codec draws."""
    if isinstance(codec, Sign | Ternary | QSGD | StochasticSign | Hadamard):
        return codec.encode(x, Streams(0, 1, range(len(x)), x.device))
    return codec.encode(x)


def values(n, d, seed=0):
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def summed_in_order(decoded, weights=None):
    total = torch.zeros(decoded.shape[1])
    for i, row in enumerate(decoded):
        total = total + (row if weights is None else row * weights[i])
    return total


@every_codec
@pytest.mark.parametrize("d", [1, 8, 9, 100_003])
def test_every_row_is_uint8_of_the_stated_length(codec, d):
    rows = encoded(codec, values(3, d))
    assert [(row.dtype, tuple(row.shape)) for row in rows] == [(torch.uint8, (codec.length(d),))] * 3


@every_codec
def test_rows_are_decoded_alone_as_together_and_in_their_order(codec):
    rows = encoded(codec, values(5, 19))
    together = codec.decode(rows, 19)
    assert together.dtype == torch.float32
    assert torch.equal(together, torch.cat([codec.decode([row], 19) for row in rows]))
    assert torch.equal(together.flip(0), codec.decode(rows[::-1], 19))


@every_codec
@pytest.mark.parametrize("n", [1, 2, 3, 7, 9, 64])
@pytest.mark.parametrize("d", [1, 8, 13, 64, 1000])
def test_mean_is_exactly_the_mean_of_the_decoded_rows(codec, n, d):
    rows = encoded(codec, values(n, d))
    assert torch.equal(codec.mean(rows, d), summed_in_order(codec.decode(rows, d)) / n)


@every_codec
@pytest.mark.parametrize("n", [1, 2, 3, 7, 9])
def test_weighted_mean_adds_the_weighted_rows_in_their_order(codec, n):
    rows = encoded(codec, values(n, 301))
    weights = torch.arange(1.0, n + 1) / (n * (n + 1) / 2)
    assert torch.equal(codec.mean(rows, 301, weights), summed_in_order(codec.decode(rows, 301), weights))


@pytest.mark.parametrize(("order", "total"), [((0, 1, 2), 0.0), ((0, 2, 1), 1.0)])
def test_float_rows_are_added_first_to_last(order, total):
    x = torch.tensor([[2.0**28], [4.0], [-(2.0**28)]])[list(order)]
    rows = Float32().encode(x)
    assert Float32().mean(rows, 1, torch.full((3,), 0.25)).item() == total
    assert Float32().mean(rows, 1).item() == pytest.approx(4 * total / 3)


@every_codec
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("row", [0, 2, 4])
def test_values_that_are_not_finite_are_refused_with_their_row(codec, bad, row):
    x = values(5, 11)
    x[row, 3] = bad
    with pytest.raises(PayloadError, match="NaN or infinite") as error:
        encoded(codec, x)
    assert error.value.row == row


@every_codec
@pytest.mark.parametrize("change", ["short", "long", "empty", "int8", "float32", "matrix"])
@pytest.mark.parametrize("how", ["decode", "mean", "weighted_mean"])
def test_rows_of_the_wrong_form_are_refused_with_their_row(codec, change, how):
    row = 2
    rows = encoded(codec, values(4, 21))
    right = rows[row]
    rows[row] = {
        "short": right[:-1],
        "long": torch.cat([right, right[:1]]),
        "empty": right[:0],
        "int8": right.view(torch.int8),
        "float32": right.to(torch.float32),
        "matrix": right[None],
    }[change]
    with pytest.raises(PayloadError, match=f"expected {codec.length(21)} bytes") as error:
        if how == "decode":
            codec.decode(rows, 21)
        else:
            codec.mean(rows, 21, torch.full((4,), 0.25) if how == "weighted_mean" else None)
    assert error.value.row == row


@pytest.mark.parametrize("weights", [None, torch.full((4,), 0.25)], ids=["uniform", "weighted"])
@pytest.mark.parametrize("codec", [Sign("plus"), Ternary(), Uniform(3)], ids=["sign", "ternary", "uniform_3"])
def test_mean_refuses_padding_with_its_row(codec, weights):
    rows = encoded(codec, values(4, 21))
    rows[2][2] |= 1
    with pytest.raises(PayloadError, match="padding") as error:
        codec.mean(rows, 21, weights)
    assert error.value.row == 2


def test_mean_refuses_a_float_that_is_not_finite_with_its_row():
    rows = Float32().encode(values(4, 2))
    rows[3][:] = 255
    with pytest.raises(PayloadError, match="NaN or infinite") as error:
        Float32().mean(rows, 2)
    assert error.value.row == 3


def test_finite_values_pass_as_they_are():
    x = values(3, 5)
    assert finite(x) is x


def test_finite_values_whose_sum_overflows_pass():
    x = torch.full((2, 4), 3e38)
    assert finite(x) is x


def test_first_row_that_is_not_finite_is_named():
    x = torch.zeros(4, 2)
    x[1, 1], x[3, 0] = float("inf"), -float("inf")
    with pytest.raises(PayloadError) as error:
        finite(x)
    assert error.value.row == 1


def test_values_without_storage_pass():
    x = torch.empty(2, 3, device="meta")
    assert finite(x) is x


def test_client_that_diverged_is_told_from_a_wrong_one_where_each_has_a_codec():
    """on_nan=drop leaves out the first alone."""
    integers = [Integer(-1, 1), Integer(-2, 2)]
    with pytest.raises(NotFiniteError) as error:
        encode_each(integers, torch.tensor([[0.0], [float("nan")]]))
    assert error.value.row == 1
    with pytest.raises(PayloadError) as error:
        encode_each(integers, torch.tensor([[0.0], [3.0]]))
    assert error.value.row == 1 and not isinstance(error.value, NotFiniteError)
