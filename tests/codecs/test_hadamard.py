"""The Hadamard rotation, its blocks, the Lloyd-Max quantiser, and DRIVE's and EDEN's identities."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, linalg, stats

from fedsign.codecs import Hadamard
from fedsign.codecs.hadamard import SMALLEST, blocks, centroids, transform
from fedsign.errors import PayloadError
from fedsign.local.streams import Streams

every_scale = pytest.mark.parametrize("scale", ["unbiased", "mse"])
every_width = pytest.mark.parametrize("b", [1, 2, 3, 4])
NORMAL_ERROR = {1: 1 - 2 / math.pi, 2: 0.11748, 3: 0.03454, 4: 0.009497}  # Max (1960), table I: of N(0, 1)


def streams(n, t=1):
    return Streams(5, t, range(n), torch.device("cpu"))


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def sent(codec, x, t=1):
    return codec.decode(codec.encode(x, streams(len(x), t)), x.shape[1])


def squares(x):
    return (x.double() ** 2).sum(dim=1)


@pytest.mark.parametrize("log", range(13))
def test_transform_is_the_hadamard_matrix_over_the_root(log):
    D = 2**log
    x = normal(1, D)[0]
    np.testing.assert_allclose(transform(x), linalg.hadamard(D) @ x.double().numpy() / math.sqrt(D), atol=1e-5)


@pytest.mark.parametrize("log", [0, 1, 5, 17])
def test_transform_is_an_involution_and_keeps_the_norm(log):
    x = normal(1, 2**log)[0]
    before = x.clone()
    y = transform(x)
    assert torch.equal(x, before)
    np.testing.assert_allclose(transform(y), x, atol=1e-5)
    assert y.norm().item() == pytest.approx(x.norm().item(), rel=1e-5)


@pytest.mark.parametrize("d", [*range(1, 300), 1000, 24_794, 389_920, 797_962, 1_181_536, 1_273_696, 11_173_962])
def test_blocks_are_powers_of_two_that_cover_the_vector(d):
    sizes = blocks(d)
    assert all(size & (size - 1) == 0 for size in sizes)
    assert list(sizes) == sorted(sizes, reverse=True)
    assert sum(sizes) - sizes[-1] < d <= sum(sizes)
    assert len(sizes) == 1 or sizes[-1] >= SMALLEST
    whole = 1 << (d - 1).bit_length()
    assert sum(sizes) + 32 * len(sizes) <= whole + 32  # never dearer than padding to a power of two


def test_padding_costs_less_than_a_percent():
    rng = np.random.default_rng(0)
    for d in [*range(16_222, 33_000), *(int(10 ** rng.uniform(4.22, 7.5)) for _ in range(2000))]:
        assert sum(blocks(d)) < 1.01 * d
        if d >= 28_484:
            assert sum(blocks(d)) + 32 * len(blocks(d)) < 1.01 * d


@every_width
@pytest.mark.parametrize(("d", "D", "B"), [(5, 8, 1), (64, 64, 1), (100, 128, 1), (160, 192, 2), (24_794, 24_832, 3)])
def test_row_is_seed_scales_and_symbols(b, d, D, B):
    codec = Hadamard(b, "unbiased")
    rows = codec.encode(normal(2, d), streams(2))
    assert codec.unpadded_bits(d) == b * D + 32 * B + 32
    assert [len(row) for row in rows] == [codec.length(d)] * 2 == [4 + 4 * B + b * D // 8] * 2


@every_width
def test_centroids_are_the_lloyd_max_quantiser(b):
    """Each is the mean of a standard normal in its cell, the cells end half way between, and the error is Max's."""
    levels = np.array(centroids(b))
    assert len(levels) == 2**b
    np.testing.assert_allclose(levels, -levels[::-1])
    edges = np.array([-np.inf, *(levels[1:] + levels[:-1]) / 2, np.inf])
    error = 0.0
    for level, low, high in zip(levels, edges[:-1], edges[1:], strict=True):
        mass = stats.norm.cdf(high) - stats.norm.cdf(low)
        mean = integrate.quad(lambda t: t * stats.norm.pdf(t), low, high)[0] / mass
        assert level == pytest.approx(mean, abs=1e-8)
        error += integrate.quad(lambda t, level=level: (t - level) ** 2 * stats.norm.pdf(t), low, high)[0]
    assert error == pytest.approx(NORMAL_ERROR[b], rel=1e-3)


@every_width
@pytest.mark.parametrize("d", [1, 3, 64, 100, 160, 1000])
def test_unbiased_scale_keeps_the_inner_product(b, d):
    """⟨x̂, x⟩ = ‖x‖², in every block and so in sum."""
    x = normal(20, d)
    product = (sent(Hadamard(b, "unbiased"), x).double() * x).sum(dim=1)
    np.testing.assert_allclose(product, squares(x), rtol=1e-5)


@pytest.mark.parametrize("D", [2, 64, 1024])
def test_errors_of_one_bit_are_the_closed_forms(D):
    """‖x‖² (D ‖x‖²/‖Rx‖_1² − 1) with the unbiased scale, ‖x‖² (1 − ‖Rx‖_1²/(D ‖x‖²)) with the least-squares one."""
    x = normal(30, D)
    decoded = {scale: sent(Hadamard(1, scale), x) for scale in ("unbiased", "mse")}
    share = squares(decoded["mse"]) / squares(x)  # ‖Rx‖_1² / (D ‖x‖²): S = ‖Rx‖_1/D on D signs
    np.testing.assert_allclose(squares(decoded["mse"] - x), squares(x) * (1 - share), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(squares(decoded["unbiased"] - x), squares(x) * (1 / share - 1), rtol=1e-4, atol=1e-6)
    ratio = squares(decoded["unbiased"]) / squares(x)
    np.testing.assert_allclose(ratio, 1 / share, rtol=1e-4)


@pytest.mark.parametrize("d", [2**17, 100_000])
def test_error_of_one_bit_tends_to_the_normal_limits(d):
    x = normal(1, d)
    share = {scale: float(squares(sent(Hadamard(1, scale), x) - x) / squares(x)) for scale in ("unbiased", "mse")}
    assert share["unbiased"] == pytest.approx(math.pi / 2 - 1, rel=0.02)
    assert share["mse"] == pytest.approx(1 - 2 / math.pi, rel=0.02)


@every_width
def test_error_of_b_bits_tends_to_that_of_the_quantiser(b):
    """For the MSE scale the limit is Max's error; for the unbiased one D_b / (1 − D_b)."""
    x = normal(1, 2**17).exp()  # far from normal before the rotation
    D = NORMAL_ERROR[b]
    for scale, limit in (("mse", D), ("unbiased", D / (1 - D))):
        assert float(squares(sent(Hadamard(b, scale), x) - x) / squares(x)) == pytest.approx(limit, rel=0.03)


@every_width
def test_mse_scale_is_the_best_scale(b):
    """The error is orthogonal to what is sent."""
    x = normal(10, 1024)
    got = sent(Hadamard(b, "mse"), x)
    np.testing.assert_allclose(((got - x).double() * got).sum(dim=1) / squares(x), 0, atol=1e-5)


def test_least_squares_shrinks_the_estimate_by_two_over_pi():
    x = normal(1, 2**16)
    product = (sent(Hadamard(1, "mse"), x).double() * x).sum()
    assert float(product / squares(x)) == pytest.approx(2 / math.pi, rel=0.01)


@pytest.mark.parametrize("d", [1024, 1500])
@pytest.mark.parametrize("b", [1, 2])
def test_unbiased_over_rotations(b, d):
    """For n clients that hold the same x, ‖mean x̂ − x‖² is E‖x̂ − x‖² / n, as without bias, to its fluctuation."""
    n = 500
    x = normal(1, d, seed=3)
    got = sent(Hadamard(b, "unbiased"), x.expand(n, -1))
    expected = float(squares(got - x).mean()) / n
    excess = float(squares(got.double().mean(dim=0, keepdim=True) - x)) - expected
    assert abs(excess) < 5 * expected * math.sqrt(2 / d) + 1e-6 * float(squares(x))


@every_scale
@every_width
def test_zero_is_sent_as_zero(b, scale):
    x = torch.zeros(2, 160)
    x[1, :128] = normal(1, 128)[0]
    got = sent(Hadamard(b, scale), x)
    assert not got[0].any()
    assert not got[1, 128:].any()
    assert torch.isfinite(got).all()


@every_scale
@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_scale_passes_through(scale, factor):
    x = normal(2, 300)
    np.testing.assert_allclose(sent(Hadamard(2, scale), factor * x) / factor, sent(Hadamard(2, scale), x), rtol=1e-4)


def test_rotations_are_each_clients_and_rounds_own():
    x = normal(1, 512).expand(2, -1)
    codec = Hadamard(1, "mse")
    first, again, later = codec.encode(x, streams(2)), codec.encode(x, streams(2)), codec.encode(x, streams(2, t=2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], later[0])


def test_server_needs_the_seed():
    x = normal(1, 512)
    (row,) = Hadamard(4, "mse").encode(x, streams(1))
    row[0] ^= 1
    assert squares(Hadamard(4, "mse").decode([row], 512) - x) > squares(x)


@pytest.mark.parametrize(("scale", "match"), [(math.nan, "NaN"), (math.inf, "infinite"), (-1.0, "negative")])
def test_illegal_scales_are_refused_with_their_row(scale, match):
    rows = Hadamard(2, "mse").encode(normal(3, 160), streams(3))
    rows[1][8:12] = torch.tensor([scale]).view(torch.uint8)  # of the second block
    with pytest.raises(PayloadError, match=match) as error:
        Hadamard(2, "mse").decode(rows, 160)
    assert error.value.row == 1


def test_padding_is_refused_with_its_row():
    rows = Hadamard(1, "mse").encode(normal(3, 3), streams(3))
    rows[2][-1] |= 1  # four signs, four bits of padding
    with pytest.raises(PayloadError, match="padding") as error:
        Hadamard(1, "mse").decode(rows, 3)
    assert error.value.row == 2


def test_a_scale_beyond_float32_is_refused():
    with pytest.raises(PayloadError, match="infinite"):
        Hadamard(1, "mse").encode(torch.full((1, 4096), 3e38), streams(1))
