"""Batch normalisation without state, and with state for every batch size."""

import pytest
import torch
from torch import nn

from fedsign.models.normalisation import BatchNorm, StaticBatchNorm

SHAPES = [(6, 5), (4, 5, 3, 2)]


def random(shape, seed=0):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_static_norm_is_its_formula_in_training_and_in_evaluation(shape, training):
    x = random(shape)
    axes = [0, *range(2, len(shape))]
    mean, variance = x.mean(axes, keepdim=True), x.var(axes, keepdim=True, correction=0)
    torch.testing.assert_close(StaticBatchNorm().train(training)(x), (x - mean) / (variance + 1e-5).sqrt())


def test_static_norm_has_no_state():
    norm = StaticBatchNorm()
    norm(random((4, 5, 3, 2)))
    assert norm.state_dict() == {}


def test_static_norm_in_evaluation_depends_on_the_rest_of_the_batch():
    x = random((4, 5))
    norm = StaticBatchNorm().eval()
    assert not torch.allclose(norm(x)[:2], norm(x[:2]), atol=0.1)


@pytest.mark.parametrize("shape", [(1, 5), (1, 5, 1, 1)])
def test_static_norm_of_a_single_value_is_zero_with_a_finite_gradient(shape):
    x = random(shape).requires_grad_()
    output = StaticBatchNorm()(x)
    output.square().sum().backward()
    assert output.abs().max() < 1e-3
    assert x.grad.abs().max() < 1e-3


@pytest.mark.parametrize(("shape", "theirs"), [((6, 5), nn.BatchNorm1d), ((4, 5, 3, 2), nn.BatchNorm2d)])
def test_batch_norm_is_torchs(shape, theirs):
    norms = BatchNorm(5), theirs(5)
    for norm in norms:
        nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(3))
        nn.init.uniform_(norm.bias, generator=torch.Generator().manual_seed(4))
    for step in range(3):
        outputs = [norm(random(shape, seed=step)) for norm in norms]
        torch.testing.assert_close(*outputs)
    for name in ("running_mean", "running_var"):
        assert torch.equal(*(getattr(norm, name) for norm in norms))
        assert not torch.equal(getattr(norms[0], name), getattr(BatchNorm(5), name))
    torch.testing.assert_close(*(norm.eval()(random(shape, seed=9)) for norm in norms))


@pytest.mark.parametrize("shape", [(1, 5), (1, 5, 1, 1)])
def test_batch_norm_of_a_single_value_uses_the_running_statistics_and_leaves_them(shape):
    norm = BatchNorm(5)
    norm(random((6, 5)))
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    x = random(shape, seed=1)
    training = norm(x)
    assert torch.equal(training, norm.eval()(x))
    assert torch.equal(norm.running_mean, mean)
    assert torch.equal(norm.running_var, variance)
    torch.testing.assert_close(training.flatten(), (x.flatten() - mean) / (variance + 1e-5).sqrt())
