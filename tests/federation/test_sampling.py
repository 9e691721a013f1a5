"""Cohorts: uniform, without replacement, and the same for every method."""

import csv
import math
from itertools import pairwise

import numpy as np
import pytest

from fedsign.federation.sampling import cohort


@pytest.mark.parametrize(("clients", "size"), [(1, 1), (10, 1), (10, 10), (100, 10), (3579, 100)])
@pytest.mark.parametrize("round", [1, 2, 50])
def test_cohort_has_distinct_clients_in_increasing_order(clients, size, round):
    drawn = cohort(0, round, clients, size)
    assert len(drawn) == size
    assert all(a < b for a, b in pairwise(drawn))
    assert drawn[0] >= 0
    assert drawn[-1] < clients
    assert all(type(client) is int for client in drawn)


def test_full_participation_is_every_client():
    assert cohort(4, 9, 12, 12) == list(range(12))


def test_same_seed_and_round_give_the_same_cohort():
    assert cohort(1, 2, 100, 10) == cohort(1, 2, 100, 10)


@pytest.mark.parametrize("other", [(1, 3), (2, 2), (2, 1)])
def test_other_seeds_and_rounds_give_other_cohorts(other):
    assert cohort(*other, 1000, 50) != cohort(1, 2, 1000, 50)


def test_every_client_is_drawn_equally_often():
    rounds, clients, size = 4000, 20, 3
    counts = np.bincount([c for t in range(1, rounds + 1) for c in cohort(0, t, clients, size)], minlength=clients)
    p = size / clients
    assert np.abs(counts - rounds * p).max() < 5 * math.sqrt(rounds * p * (1 - p))  # SE of a binomial count


def test_every_pair_is_drawn_equally_often():
    rounds, clients, size = 4000, 8, 3
    together = np.zeros((clients, clients))
    for t in range(1, rounds + 1):
        drawn = cohort(1, t, clients, size)
        together[np.ix_(drawn, drawn)] += 1
    p = size * (size - 1) / (clients * (clients - 1))
    pairs = together[np.triu_indices(clients, 1)]
    assert np.abs(pairs - rounds * p).max() < 5 * math.sqrt(rounds * p * (1 - p))  # SE of a binomial count


def test_cohorts_of_consecutive_rounds_are_independent():
    rounds, clients, size = 4000, 20, 5
    drawn = [set(cohort(2, t, clients, size)) for t in range(1, rounds + 2)]
    overlap = np.mean([len(a & b) for a, b in pairwise(drawn)])
    p = size / clients
    se = math.sqrt(size * p * (1 - p) * (clients - size) / (clients - 1) / rounds)  # of a hypergeometric mean
    assert abs(overlap - size * p) < 5 * se


def test_cohorts_do_not_depend_on_the_algorithm(run, targets):
    shared = ("dataset=consensus", "model=vector", f"dataset.targets={targets}", "rounds=6", "cohort=4", "seed=3")
    trained = []
    for algorithm in ("fedavg", "signsgd", "fedsmu"):
        with (run(*shared, f"algorithm={algorithm}") / "cohorts.csv").open() as file:
            trained.append([row["clients"] for row in csv.DictReader(file)])
    assert trained[0] == trained[1] == trained[2]
    assert trained[0] == [" ".join(map(str, cohort(3, t, 12, 4))) for t in range(1, 7)]
