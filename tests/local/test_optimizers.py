"""Local optimisers against torch's and against a naive Lion."""

import numpy as np
import pytest
import torch

from fedsign.local.optimizers import SGD, Adam, Lion, named

STEPS = 20


def gradients(*shape):
    return torch.randn(STEPS, *shape, generator=torch.Generator().manual_seed(1))


def trajectory(optimizer, start, gs, lr):
    """Iterates after each step, and the final state."""
    v = start.clone()
    state = {name: torch.zeros_like(v) for name in optimizer.names}
    path = []
    for k, g in enumerate(gs, start=1):
        optimizer.step(v, g.clone(), state, lr, k)
        path.append(v.clone())
    return torch.stack(path), state


def torch_trajectory(make, start, gs):
    v = start.clone().requires_grad_()
    optimizer = make([v])
    path = []
    for g in gs:
        v.grad = g.clone()
        optimizer.step()
        path.append(v.detach().clone())
    return torch.stack(path)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SGD(), lambda p: torch.optim.SGD(p, lr=0.1)),
        (SGD(0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        (Adam(), lambda p: torch.optim.Adam(p, lr=0.1)),
        (Adam(0.8, 0.95, 1e-3), lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.95), eps=1e-3)),
    ],
    ids=["sgd", "sgd_momentum", "adam", "adam_betas"],
)
def test_every_step_equals_torch(ours, theirs):
    start, gs = torch.linspace(-1, 1, 37), gradients(37)
    path, _ = trajectory(ours, start, gs, 0.1)
    torch.testing.assert_close(path, torch_trajectory(theirs, start, gs), rtol=1e-6, atol=1e-6)


def test_momentum_buffer_is_the_discounted_sum_of_gradients():
    gs = gradients(11)
    _, state = trajectory(SGD(0.5), torch.zeros(11), gs, 0.1)
    discounts = 0.5 ** torch.arange(STEPS - 1, -1, -1)
    torch.testing.assert_close(state["momentum"], (discounts[:, None] * gs).sum(dim=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("beta_1", "beta_2"), [(0.9, 0.99), (0.5, 0.9), (0.0, 0.9), (0.9, 0.9)])
def test_lion_equals_a_naive_lion(beta_1, beta_2):
    start, gs = torch.linspace(-1, 1, 37), gradients(37)
    path, state = trajectory(Lion(beta_1, beta_2), start, gs, 0.01)
    v, m = start.double().numpy(), np.zeros(37)
    naive = []
    for g in gs.double().numpy():
        v = v - 0.01 * np.sign(beta_1 * m + (1 - beta_1) * g)
        m = beta_2 * m + (1 - beta_2) * g
        naive.append(v)
    np.testing.assert_allclose(path.numpy(), np.stack(naive), rtol=0, atol=1e-6)
    np.testing.assert_allclose(state["m"].numpy(), m, rtol=0, atol=1e-6)


def test_lion_does_not_move_a_coordinate_that_never_had_a_gradient():
    gs = gradients(4)
    gs[:, 2] = 0
    path, _ = trajectory(Lion(), torch.ones(4), gs, 0.01)
    assert (path[:, 2] == 1).all()


def test_lion_starts_from_a_given_momentum():
    v, state = torch.zeros(3), {"m": torch.tensor([1.0, -1.0, 0.0])}
    Lion(0.9, 0.5).step(v, torch.tensor([-1.0, 1.0, 2.0]), state, 0.1, 1)
    torch.testing.assert_close(v, torch.tensor([-0.1, 0.1, -0.1]))
    torch.testing.assert_close(state["m"], torch.tensor([0.0, 0.0, 1.0]))


@pytest.mark.parametrize("optimizer", [SGD(), SGD(0.9), Adam(), Lion()], ids=["sgd", "sgd_momentum", "adam", "lion"])
def test_rows_of_a_cohort_step_as_they_do_alone(optimizer):
    start = torch.linspace(-1, 1, 5 * 21).view(5, 21)
    gs = gradients(5, 21)
    stacked, states = trajectory(optimizer, start, gs, 0.05)
    for i in range(5):
        alone, state = trajectory(optimizer, start[i], gs[:, i], 0.05)
        torch.testing.assert_close(stacked[:, i], alone, rtol=1e-6, atol=1e-6)
        for name in optimizer.names:
            torch.testing.assert_close(states[name][i], state[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "momentum", "expected", "states"),
    [
        ("sgd", 0.0, SGD(), ()),
        ("sgd", 0.9, SGD(0.9), ("momentum",)),
        ("adam", 0.0, Adam(0.9, 0.999, 1e-8), ("m", "v")),
        ("lion", 0.0, Lion(0.9, 0.99), ("m",)),
    ],
)
def test_config_names_choose_the_optimizer(name, momentum, expected, states):
    assert named(name, momentum) == expected
    assert named(name, momentum).names == states


@pytest.mark.parametrize("lr", [0.01, 1e-6])
def test_counted_lion_sums_its_signs_exactly_even_where_the_model_is_too_coarse_to_move(lr):
    """At 1000, float32 numbers are 6e-5 apart: steps of 1e-6 are lost, but not their number."""
    start, gs = torch.full((37,), 1000.0), gradients(37)
    path, state = trajectory(Lion(0.9, 0.99, counted=True), start, gs, lr)
    plain, momentum = trajectory(Lion(0.9, 0.99), start, gs, lr)
    assert torch.equal(path, plain)
    assert torch.equal(state["m"], momentum["m"])
    count, m = np.zeros(37), np.zeros(37)
    for g in gs.double().numpy():
        count += np.sign(0.9 * m + 0.1 * g)
        m = 0.99 * m + 0.01 * g
    np.testing.assert_array_equal(state["count"].numpy(), count)
    if lr < 1e-5:
        assert (path[-1] == start).all()
