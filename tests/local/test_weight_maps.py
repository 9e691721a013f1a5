"""Weight maps: their values, the law of those that draw, and their derivatives."""

import math

import numpy as np
import pytest
import torch

from fedsign.local.training import Step
from fedsign.local.weight_maps import BernoulliMask, MaskedNoise, Sparse, Tanh, ThresholdMask

D = 200_000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def at(k, total, seed=0):
    return Step(k, total, generator(seed))


def masked(signed=False, stochastic=True, progressive=True, x=None, n=None):
    n = 0.1 * normal(2, D, seed=5) if n is None else n
    x = torch.zeros(n.shape[1]) if x is None else x
    return MaskedNoise(x, n, signed=signed, stochastic=stochastic, progressive=progressive)


@pytest.mark.parametrize("a", [0.5, 1.5, 10.0])
def test_tanh_and_its_derivative(a):
    h = normal(200).requires_grad_()
    torch.tanh(a * h).backward(torch.full((200,), 3.0))
    phi = Tanh(a)
    torch.testing.assert_close(phi.forward(h.detach(), 0, at(1, 1)), torch.tanh(a * h.detach()))
    torch.testing.assert_close(phi.backward(h.detach(), torch.full((200,), 3.0), 0), h.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("a", [0.5, 1.5, 10.0])
def test_atanh_undoes_tanh(a):
    h = torch.linspace(-2 / a, 2 / a, 101)
    torch.testing.assert_close(Tanh(a).forward(h, 0, at(1, 1)).atanh() / a, h)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("k", "total"), [(1, 4), (3, 4), (4, 4)])
def test_an_element_is_masked_with_probability_k_of_K(signed, k, total):
    """u/n = 1/2 everywhere: unmasked it stays 1/2, masked it becomes one with the probability of the mask."""
    m = masked(signed)
    ratio = m.forward(0.5 * m.n[1], 1, at(k, total)) / m.n[1]
    low, p = (-1.0, 0.75) if signed else (0.0, 0.5)
    for value, probability in ((0.5, 1 - k / total), (1.0, p * k / total), (low, (1 - p) * k / total)):
        share = ((ratio - value).abs() < 1e-4).double().mean()
        assert abs(share - probability) <= 5 * math.sqrt(probability * (1 - probability) / D)


@pytest.mark.parametrize(("signed", "lowest"), [(False, 0.0), (True, -1.0)])
def test_elements_that_are_not_masked_are_cut_off_at_the_noise(signed, lowest):
    n = torch.tensor([[0.2, 0.2, 0.2, -0.2, -0.2, -0.2]])
    u = torch.tensor([0.5, 0.1, -0.5, 0.5, -0.1, -0.5])
    m = masked(signed, n=n)
    free = m.forward(u, 0, at(1, 10**9))
    torch.testing.assert_close(free, n[0] * (u / n[0]).clamp(lowest, 1))


def test_without_progressive_masking_every_element_is_masked_in_every_step():
    m = masked(progressive=False)
    ratio = m.forward(0.5 * m.n[0], 0, at(1, 100)) / m.n[0]
    assert set(ratio.round(decimals=5).tolist()) == {0.0, 1.0}


def test_in_the_last_step_every_element_is_masked():
    m = masked(signed=True)
    ratio = m.forward(0.5 * m.n[0], 0, at(7, 7)) / m.n[0]
    assert set(ratio.round(decimals=5).tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize(("signed", "lowest"), [(False, 0.0), (True, -1.0)])
def test_deterministic_masking_compares_signs(signed, lowest):
    m = masked(signed, stochastic=False, progressive=False)
    u = 1e-9 * normal(D, seed=6)
    expected = torch.where(u * m.n[0].sign() > 0, m.n[0], lowest * m.n[0])
    assert torch.equal(m.forward(u, 0, at(1, 9)), expected)


def test_masked_noise_is_added_to_the_frozen_model_and_passes_the_gradient_straight_through():
    m = masked(x=normal(D, seed=2))
    u, g = 5 * m.n[0], normal(D, seed=3)  # far beyond the noise
    torch.testing.assert_close(m.forward(u, 0, at(1, 2)), m.x + m.n[0])
    assert torch.equal(m.backward(u, g, 0), g)


def test_no_update_leaves_the_model_as_it_is_with_binary_masks():
    m = masked(x=normal(D, seed=2))
    for k in (1, 3, 5):
        assert torch.equal(m.forward(torch.zeros(D), 0, at(k, 5)), m.x)


def test_a_map_draws_anew_in_every_step_and_each_row_has_its_own_noise():
    m = masked()
    step = at(2, 2)
    first, second = (m.forward(0.5 * m.n[0], 0, step) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(m.forward(m.n[1], 1, at(2, 2)), m.n[1])


def test_a_bernoulli_mask_has_probability_sigma_of_the_score():
    w = normal(D)
    for s in (-2.0, 0.0, 1.0):
        p = 1 / (1 + math.exp(-s))
        effective = BernoulliMask(w).forward(torch.full((D,), s), 0, at(1, 1))
        assert torch.equal(effective[effective != 0], w[effective != 0])
        assert abs((effective != 0).double().mean() - p) < 5 * math.sqrt(p * (1 - p) / D)


def test_the_gradient_of_a_bernoulli_mask_is_the_released_one():
    w, s, g = (normal(100, seed=i).double() for i in range(3))
    theta = 1 / (1 + np.exp(-s.numpy()))
    expected = g.numpy() * w.numpy() * theta * theta * (1 - theta)
    np.testing.assert_allclose(BernoulliMask(w).backward(s, g, 0), expected, rtol=1e-12)


@pytest.mark.parametrize(("signed", "low"), [(False, 0.0), (True, -1.0)])
def test_a_threshold_mask_keeps_positive_scores_and_passes_the_gradient_straight_through(signed, low):
    w, s, g = normal(4), torch.tensor([1e-30, -1e-30, 0.0, 7.0]), normal(4, seed=1)
    assert torch.equal(ThresholdMask(w, signed).forward(s, 0, at(1, 1)), w * torch.tensor([1.0, low, low, 1.0]))
    assert torch.equal(ThresholdMask(w, signed).backward(s, g, 0), g * w)


def test_pruned_weights_have_no_gradient():
    v, g = normal(6), normal(6, seed=1)
    mask = torch.tensor([True, False, True, True, False, True])
    assert torch.equal(Sparse(mask).forward(v, 0, at(1, 1)), v)
    assert torch.equal(Sparse(mask).backward(v, g, 0), torch.where(mask, g, 0))
