"""Counter-based streams: a function of (seed, purpose, round, client), and of nothing else."""

import numpy as np
import pytest
from scipy import stats

from fedsign.randomness import generator

BASE = {"seed": 3, "purpose": "order", "round": 7, "client": 11}


def draws(**change):
    return generator(**(BASE | change)).random(1000)


def test_same_arguments_give_the_same_numbers():
    assert np.array_equal(draws(), draws())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"purpose": "augment"},
        {"round": 8},
        {"client": 12},
        {"round": 11, "client": 7},
        {"seed": 7, "round": 3},
        {"seed": 2**63 - 1},
        {"seed": 3 + 2**32},
        {"client": 11 + 2**32},
    ],
    ids=str,
)
def test_another_argument_gives_independent_numbers(change):
    a, b = draws(), draws(**change)
    assert not np.isin(a, b).any()
    correlation = 12 * np.mean((a - 0.5) * (b - 0.5))
    assert abs(correlation) < 5 / np.sqrt(len(a))  # SE of a correlation of independent draws: 1/sqrt(n)


def test_round_and_client_are_zero_by_default():
    assert np.array_equal(generator(3, "init").random(5), generator(3, "init", 0, 0).random(5))


def test_long_draw_of_one_client_does_not_run_into_the_next_client():
    long = generator(0, "noise", 1, 0).bit_generator.random_raw(100_000)
    assert not np.isin(generator(0, "noise", 1, 1).bit_generator.random_raw(1000), long).any()


@pytest.mark.parametrize("argument", ["seed", "round", "client"])
def test_first_draws_of_neighbouring_streams_are_uniform(argument):
    first = [generator(**(BASE | {argument: i})).random() for i in range(4000)]
    assert stats.kstest(first, "uniform").pvalue > 1e-3


def test_global_generator_is_neither_read_nor_moved():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = draws()
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(draws(), first)


@pytest.mark.parametrize(
    ("arguments", "first"),
    [((0, "cohort", 1, 2), 0x8929368775939C09), ((123, "order", 4000, 3578), 6384045382537674481)],
)
def test_first_word_of_a_stream_never_changes(arguments, first):
    assert generator(*arguments).bit_generator.random_raw() == first
