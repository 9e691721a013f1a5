"""Random tensors: who they depend on, and their laws."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from fedsign.local.streams import Streams

CPU = torch.device("cpu")
DRAWS = {
    "uniform": lambda s, purpose, d: s.uniform(purpose, d),
    "normal": lambda s, purpose, d: s.normal(purpose, d),
    "gamma": lambda s, purpose, d: s.gamma(purpose, d, 1.5),
}
every_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())


def streams(*clients, seed=5, round=2):
    return Streams(seed, round, clients, CPU)


@every_draw
@pytest.mark.parametrize("d", [1, 15, 16, 17, 1000])
def test_row_does_not_depend_on_which_clients_are_at_hand(draw, d):
    together = draw(streams(9, 4, 7), "noise", d)
    alone = torch.cat([draw(streams(client), "noise", d) for client in (9, 4, 7)])
    assert together.dtype == torch.float32
    assert together.shape == (3, d)
    assert torch.equal(together, alone)


@every_draw
def test_asking_twice_gives_the_same_draw(draw):
    s = streams(0, 1)
    first = draw(s, "noise", 50)
    draw(s, "mask", 50)
    assert torch.equal(draw(s, "noise", 50), first)


@every_draw
@pytest.mark.parametrize("change", ["purpose", "seed", "round", "client"])
def test_draws_for_something_else_are_uncorrelated(draw, change):
    d = 20_000
    a = draw(streams(4), "noise", d)[0]
    other = {
        "purpose": lambda: draw(streams(4), "mask", d),
        "seed": lambda: draw(streams(4, seed=6), "noise", d),
        "round": lambda: draw(streams(4, round=3), "noise", d),
        "client": lambda: draw(streams(5), "noise", d),
    }
    b = other[change]()[0]
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(d)  # SE of a correlation of independent draws: 1/sqrt(d)


LAWS = {  # draw, scipy's law, fourth central moment
    "uniform": (lambda d: streams(1).uniform("law", d), stats.uniform(), 1 / 80),
    "normal": (lambda d: streams(1).normal("law", d), stats.norm(), 3),
    "gamma_0.5": (lambda d: streams(1).gamma("law", d, 0.5), stats.gamma(0.5), 3 * 0.5**2 + 6 * 0.5),
    "gamma_1.1": (lambda d: streams(1).gamma("law", d, 1.1), stats.gamma(1.1), 3 * 1.1**2 + 6 * 1.1),
    "gamma_3": (lambda d: streams(1).gamma("law", d, 3.0), stats.gamma(3), 3 * 3**2 + 6 * 3),
}
every_law = pytest.mark.parametrize(("draw", "law", "fourth"), LAWS.values(), ids=LAWS.keys())


@every_law
def test_mean_and_variance_are_those_of_the_law(draw, law, fourth):
    n = 200_000
    x = draw(n)[0].double().numpy()
    variance = law.var()
    assert abs(x.mean() - law.mean()) < 5 * math.sqrt(variance / n)  # SE of the mean: sqrt(var/n)
    assert abs(x.var() - variance) < 5 * math.sqrt((fourth - variance**2) / n)  # SE: sqrt((mu_4 - var^2)/n)


@every_law
def test_draws_follow_the_law(draw, law, fourth):
    assert stats.kstest(draw(20_000)[0].double().numpy(), law.cdf).pvalue > 1e-3


@pytest.mark.parametrize(("kind", "cdf"), [("uniform", stats.uniform().cdf), ("normal", stats.norm().cdf)])
def test_single_draws_of_many_clients_follow_the_law(kind, cdf):
    x = DRAWS[kind](streams(*range(3000)), "noise", 1)[:, 0].double().numpy()
    assert stats.kstest(x, cdf).pvalue > 1e-3


def test_uniform_lies_in_the_half_open_unit_interval():
    x = streams(*range(5)).uniform("noise", 200_000)
    assert x.min() >= 0
    assert x.max() < 1


def test_generators_of_a_row_start_afresh_each_time():
    s = streams(3, 8)
    assert torch.equal(torch.rand(9, generator=s.generator("step", 1)), torch.rand(9, generator=s.generator("step", 1)))
    assert np.array_equal(s.numpy("order", 1).permutation(20), streams(8).numpy("order", 0).permutation(20))


@every_draw
def test_torch_generator_is_neither_read_nor_moved(draw):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = draw(streams(1), "noise", 20)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(draw(streams(1), "noise", 20), first)
