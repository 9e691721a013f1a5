"""What `train` and `gradient` promise each other: one more gradient is one more step, on the next batch."""

import pytest
import torch

from fedsign.config import Config
from fedsign.execution import setup

DIGITS = ("dataset=digits", "model=mlp", "clients=10", "partition=dirichlet", "local.batch_size=16")


@pytest.fixture
def training(resolved):
    """``training("local.epochs=2")``: local training of clients 3, 0 and 7 from the initial model, and that model."""

    def go(*overrides):
        built = setup.build(Config(resolved(*DIGITS, *overrides)))
        d = built.layout.coded
        return built.executor.training([3, 0, 7], 1, built.initial[d:]), built.initial[:d].clone()

    return go


@pytest.mark.parametrize("codes", ["all", "weights"])
@pytest.mark.parametrize("steps", [1, 4, 20])
def test_steps_and_a_gradient_are_one_more_step(training, codes, steps):
    """20 batches of 16 are more than a client has: the epoch is shuffled again. With codes=weights biases move too."""
    local, x = training(f"algorithm.codes={codes}", "local.lr=0.3")
    y = local.train(x, steps=steps).y
    g = local.gradient(y)
    whole, _ = training(f"algorithm.codes={codes}", "local.lr=0.3")
    torch.testing.assert_close(y - 0.3 * g, whole.train(x, steps=steps + 1).y, rtol=0, atol=1e-6)
    torch.testing.assert_close(local.tails, whole.tails, rtol=0, atol=1e-6)
    assert local.tails.shape[1] == {"all": 0, "weights": 138}[codes]


@pytest.mark.parametrize("configured", ["local.epochs=2", "local.epochs=null local.steps=7"])
def test_given_steps_replace_the_configured_ones(training, configured):
    local, x = training(*configured.split())
    expected, _ = training("local.epochs=null", "local.steps=3")
    assert torch.equal(local.train(x, steps=3).y, expected.train(x).y)


def test_gradients_are_of_one_batch_after_the_other(training):
    local, x = training()
    first, second = local.gradient(x), local.gradient(x)
    again, _ = training()
    assert not torch.equal(first, second)
    assert torch.equal(again.gradient(x), first)
