"""FedMRN: what masked noise does to the model."""

import math

import numpy as np
import pytest
import torch
from toys import Given, algorithm, flat, round_of, streams

from fedsign.algorithms.base import send
from fedsign.config import Config
from fedsign.errors import ConfigError
from fedsign.local.training import Step
from fedsign.local.weight_maps import MaskedNoise

D = 50_000


def step(fedmrn, u, samples=None, x=None, t=1, clients=None):
    """The model after a round whose clients end their training at u [n, d]."""
    n, d = u.shape
    x = torch.zeros(d) if x is None else x
    uplink, _ = fedmrn.client(send(x=x), {}, Given(-u), streams(clients or range(n), t))
    return fedmrn.server({"x": x}, uplink, round_of(n, d, t, samples))["x"]


@pytest.mark.parametrize("after_training", [False, True])
@pytest.mark.parametrize("noise", ["uniform", "gaussian", "bernoulli"])
def test_without_an_update_binary_masks_leave_the_model_as_it_is(noise, after_training):
    """η = 0: u = 0, hence û = 0."""
    x = torch.randn(D, generator=torch.Generator().manual_seed(0))
    fedmrn = algorithm("fedmrn", noise=noise, after_training=after_training)
    assert torch.equal(step(fedmrn, torch.zeros(3, D), x=x), x)


@pytest.mark.parametrize(("noise", "variance"), [("uniform", 1 / 3), ("gaussian", 1.0), ("bernoulli", 1.0)])
def test_without_an_update_signed_masks_add_noise_of_mean_zero_and_its_own_variance(noise, variance):
    """Of n clients the mean has variance n̄²/n per coordinate."""
    alpha, n = 0.2, 4
    fedmrn = algorithm("fedmrn", mask="signed", noise=noise, noise_scale=alpha)
    x = step(fedmrn, torch.zeros(n, D)).double()
    expected = alpha**2 * variance / n
    assert abs(x.mean()) < 5 * math.sqrt(expected / D)
    fourth = 3.0  # a Gaussian's kurtosis bounds that of the three
    assert abs((x**2).mean() - expected) < 5 * expected * math.sqrt((fourth - 1) / D)


def test_the_update_is_weighted_by_the_samples_of_the_clients():
    fedmrn = algorithm("fedmrn", mask="signed", noise="bernoulli", noise_scale=0.5)
    u = torch.tensor([[9.0], [-9.0], [9.0]]).expand(3, 40)  # beyond the noise: the masked noise is ±0.5, without chance
    np.testing.assert_allclose(step(fedmrn, u, samples=[10, 30, 60]), 0.5 * (0.1 - 0.3 + 0.6), rtol=1e-5)


@pytest.mark.parametrize(("mask", "alpha"), [("binary", 0.01), ("signed", 0.005)])
def test_the_default_noise_is_the_papers(mask, alpha):
    x = step(algorithm("fedmrn", mask=mask), 9 * torch.ones(1, D))
    assert 0.99 * alpha < x.max() <= alpha * (1 + 1e-6)


def test_noise_is_fresh_for_every_client_and_round():
    fedmrn = algorithm("fedmrn", mask="signed")
    moves = [step(fedmrn, torch.zeros(1, D), t=t, clients=[c]) for t, c in ((1, 0), (1, 1), (2, 0), (1, 0))]
    assert torch.equal(moves[0], moves[3])
    for other in moves[1:3]:
        correlation = torch.corrcoef(torch.stack([moves[0].abs(), other.abs()]))[0, 1]
        assert abs(correlation) < 5 / math.sqrt(D)


def test_masking_after_training_is_fedavg_in_expectation(consensus):
    """Signed masks of Bernoulli noise beyond the largest update are unbiased. Equal columns are the draws."""
    values, d, lr, alpha = np.array([-1.0, 0.3, 0.9]), 40_000, 0.1, 0.5
    y = np.repeat(values[:, None], d, axis=1)
    given = ("rounds=1", "local.steps=5", f"local.lr={lr}")
    _, fedavg = consensus(y, "algorithm=fedavg", *given)
    keys = ("mask=signed", "noise=bernoulli", f"noise_scale={alpha}", "after_training=true")
    _, x = consensus(y, "algorithm=fedmrn", *(f"algorithm.{key}" for key in keys), *given)
    u = (1 - (1 - lr) ** 5) * values
    variance = np.sum(alpha**2 - u**2) / len(values) ** 2
    assert abs(x.mean(dtype=np.float64) - fedavg[0]) < 5 * math.sqrt(variance / d)


@pytest.mark.parametrize("k", [1, 10, 25, 50])
def test_progressive_masking_scales_the_error_by_the_probability_of_masking(k):
    """E||û − u||² = p Σ u (n − u) with p = k/K: masking is drawn per element, so the factor is p and not p²."""
    n = 0.1 + torch.rand(1, D, generator=torch.Generator().manual_seed(0))
    weights = MaskedNoise(torch.zeros(D), n, signed=False, stochastic=True, progressive=True)
    u = 0.3 * n[0]
    error = (weights.forward(u, 0, Step(k, 50, torch.Generator().manual_seed(1))) - u).double() ** 2
    expected = k / 50 * u.double() * (n[0] - u).double()
    fourth = k / 50 * n[0].double() ** 4 * (0.3 * 0.7**4 + 0.7 * 0.3**4)
    assert abs(error.sum() - expected.sum()) < 5 * (fourth - expected**2).sum().sqrt() + 1e-3


def test_half_of_the_coordinates_rest_where_update_and_noise_differ_in_sign():
    x = step(algorithm("fedmrn"), torch.full((1, D), 9.0))
    assert abs((x == 0).double().mean() - 0.5) < 5 * 0.5 / math.sqrt(D)


def test_a_message_is_a_mask_and_a_seed():
    layout = flat(1001)
    assert algorithm("fedmrn").uplink_bits_formula(layout) == 1001 + 64


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("algorithm.noise_scale=0", "algorithm.noise_scale=0"),
        ("algorithm.noise_scale=-0.1", "algorithm.noise_scale=-0.1"),
        ("algorithm.mask=ternary", "algorithm.mask=ternary"),
        ("algorithm.noise=laplace", "algorithm.noise=laplace"),
        ("algorithm.progressive_masking=1", "algorithm.progressive_masking=1"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(resolved, given, named):
    with pytest.raises(ConfigError, match=named) as caught:
        Config(resolved("algorithm=fedmrn", given))
    assert "\n" not in str(caught.value)
