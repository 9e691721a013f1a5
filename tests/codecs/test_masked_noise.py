"""Masked noise: what is sent, and the laws of the noise and of the masks."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from fedsign.codecs import MaskedNoise
from fedsign.errors import PayloadError
from fedsign.local.streams import Streams

CPU = torch.device("cpu")
D = 200_000


def streams(n, seed=0):
    return Streams(seed, 1, range(n), CPU)


def codec(mask="binary", law="uniform", scale=0.01):
    return MaskedNoise(mask == "signed", law, scale)


def noise(c, seed, d=D):
    return c.noise([seed], d, CPU)[0]


def masked(c, u, stochastic=True, seed=0):
    """What the server reads of the update u, [n, d]."""
    n, d = u.shape
    return c.decode(c.encode(u, range(seed, seed + n), stochastic, streams(n, seed)), d)


@pytest.mark.parametrize(
    ("law", "cdf"),
    [("uniform", stats.uniform(-0.3, 0.6).cdf), ("gaussian", stats.norm(0, 0.3).cdf)],
)
def test_noise_has_its_law(law, cdf):
    n = noise(codec(law=law, scale=0.3), 7)
    assert n.dtype == torch.float32
    assert stats.kstest(n.double().numpy(), cdf).pvalue > 1e-3


def test_bernoulli_noise_is_plus_or_minus_alpha_with_equal_probability():
    n = noise(codec(law="bernoulli", scale=0.25), 7)
    assert set(n.tolist()) == {-0.25, 0.25}
    assert abs((n > 0).double().mean() - 0.5) < 5 * 0.5 / math.sqrt(D)


@pytest.mark.parametrize("law", ["uniform", "gaussian", "bernoulli"])
def test_noise_is_a_function_of_its_seed(law):
    c = codec(law=law)
    both = c.noise([3, 2**63 - 1], 1000, CPU)
    assert torch.equal(both, c.noise([3, 2**63 - 1], 1000, CPU))
    assert torch.equal(both[1], noise(c, 2**63 - 1, 1000))
    assert not torch.equal(both[0], both[1])


@pytest.mark.parametrize("law", ["uniform", "gaussian"])
def test_noise_is_nowhere_near_zero(law):
    n = noise(codec(law=law, scale=1e-8), 1)
    assert (n.abs() >= 0.999e-8).all()
    assert (n == 1e-8).any()


@pytest.mark.parametrize("mask", ["binary", "signed"])
@pytest.mark.parametrize("d", [1, 8, 13, 1000])
def test_a_row_is_a_seed_and_a_bit_a_value(mask, d):
    c = codec(mask)
    u = 0.005 * torch.randn(3, d, generator=torch.Generator().manual_seed(0))
    rows = c.encode(u, [5, 6, 2**62], True, streams(3))
    assert [len(row) for row in rows] == [8 + math.ceil(d / 8)] * 3
    assert c.length(d) == 8 + math.ceil(d / 8)
    assert [int.from_bytes(bytes(row[:8].tolist()), "little") for row in rows] == [5, 6, 2**62]
    bits = np.stack([np.unpackbits(row[8:].numpy(), count=d) for row in rows])
    m = bits if mask == "binary" else 2.0 * bits - 1
    np.testing.assert_array_equal(c.decode(rows, d), c.noise([5, 6, 2**62], d, CPU).numpy() * m.astype(np.float32))


@pytest.mark.parametrize("law", ["uniform", "gaussian", "bernoulli"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 1.0])
def test_binary_masks_are_unbiased_with_variance_u_n_minus_u(law, share):
    """For u/n in [0, 1], whatever the sign of n; E||n m - u||² = Σ u (n − u)."""
    check_moments(codec("binary", law, 0.3), share, lambda u, n: u * (n - u))


@pytest.mark.parametrize("law", ["uniform", "gaussian", "bernoulli"])
@pytest.mark.parametrize("share", [-1.0, -0.4, 0.0, 0.3, 1.0])
def test_signed_masks_are_unbiased_with_variance_n_n_minus_u_u(law, share):
    """For u/n in [−1, 1]; E||n m − u||² = Σ n² − u²."""
    check_moments(codec("signed", law, 0.3), share, lambda u, n: n**2 - u**2)


def check_moments(c, share, variance):
    n = noise(c, 0)
    u = share * n
    error = (masked(c, u[None])[0] - u).double()
    v = variance(u.double(), n.double())
    assert abs(error.sum()) <= 5 * v.sum().sqrt() + 1e-3  # independent coordinates; float32 rounding of the sum of u
    fourth = fourth_moment(share, n.double(), c.signed)
    assert abs((error**2).sum() - v.sum()) <= 5 * (fourth - v**2).sum().clamp(min=0).sqrt() + 1e-6 * D * 0.09


def fourth_moment(share, n, signed):
    """E (n m − u)^4 of the two values that n m takes."""
    p = (1 + share) / 2 if signed else share
    low = -1.0 if signed else 0.0
    return n**4 * (p * (1 - share) ** 4 + (1 - p) * (low - share) ** 4)


@pytest.mark.parametrize(("mask", "lowest"), [("binary", 0.0), ("signed", -1.0)])
@pytest.mark.parametrize("ratio", [-3.0, 1.5])
def test_updates_beyond_the_noise_are_cut_off(mask, lowest, ratio):
    c = codec(mask)
    n = noise(c, 0)
    assert torch.equal(masked(c, (ratio * n)[None])[0], n * max(lowest, min(ratio, 1.0)))


@pytest.mark.parametrize("law", ["uniform", "bernoulli"])
def test_signed_masks_are_binary_masks_of_twice_the_noise_less_the_noise(law):
    """G m_s = 2 G m − G with the same draws, at updates that the two laws map to one probability."""
    binary, signed = codec("binary", law, 0.2), codec("signed", law, 0.2)
    n = noise(binary, 0)
    share = torch.rand(D, generator=torch.Generator().manual_seed(1))
    m = masked(binary, (share * n)[None])[0]
    m_s = masked(signed, ((2 * share - 1) * n)[None])[0]
    differs = (m_s - (2 * m - n)).abs() > 1e-6  # where a draw lies between two roundings of one probability
    assert differs.double().mean() < 1e-5


def test_signed_bernoulli_masks_are_stochastic_binarisation_whatever_the_sign_of_the_noise():
    """n m is +α with probability (1 + u/α)/2: the law of α Sign(u + α U)."""
    alpha = 0.3
    c = codec("signed", "bernoulli", alpha)
    n = noise(c, 0)
    for u in (-0.25, -0.1, 0.0, 0.2, 0.9):
        sent = masked(c, torch.full((1, D), u))[0]
        assert set(sent.abs().tolist()) == {float(np.float32(alpha))}
        p = min(1.0, (1 + u / alpha) / 2)
        for side in (n > 0, n < 0):
            share = (sent[side] > 0).double().mean()
            assert abs(share - p) <= 5 * math.sqrt(p * (1 - p) / int(side.sum())) + 1e-12


@pytest.mark.parametrize(("mask", "lowest"), [("binary", 0.0), ("signed", -1.0)])
def test_deterministic_masks_compare_the_signs_of_update_and_noise(mask, lowest):
    c = codec(mask)
    n = noise(c, 0, 6)
    u = torch.tensor([1e-12, -1e-12, 5.0, -5.0, 0.0, -0.0]) * n.sign()
    expected = torch.tensor([1.0, lowest, 1.0, lowest, lowest, lowest])
    assert torch.equal(masked(c, u[None], stochastic=False)[0], n * expected)


def test_an_update_that_is_not_finite_is_refused():
    u = torch.zeros(3, 20)
    u[1, 4] = math.nan
    for stochastic in (True, False):
        with pytest.raises(PayloadError, match="NaN or infinite") as caught:
            codec().encode(u, range(3), stochastic, streams(3))
        assert caught.value.row == 1


def test_a_wrong_length_padding_or_an_impossible_seed_is_refused():
    c = codec()
    rows = c.encode(torch.zeros(3, 13), range(3), True, streams(3))
    weights = torch.full((3,), 1 / 3)
    with pytest.raises(PayloadError, match="expected 10 bytes") as caught:
        c.mean([rows[0], rows[1][:-1], rows[2]], 13, weights)
    assert caught.value.row == 1
    for place, value, message in ((9, 1, "padding"), (7, 128, "2\\^63")):
        broken = rows[2].clone()
        broken[place] |= value
        with pytest.raises(PayloadError, match=message) as caught:
            c.mean([rows[0], rows[1], broken], 13, weights)
        assert caught.value.row == 2
