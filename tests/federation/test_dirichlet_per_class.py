"""FedMRN's Dirichlet per class: every sample once, a minimum size whatever alpha, and the law of NIID-Bench's loop."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from fedsign.config import build
from fedsign.errors import ConfigError
from fedsign.federation import dirichlet
from fedsign.randomness import generator


def per_class(alpha, min_size=10):
    target = "fedsign.federation.dirichlet.DirichletPerClass"
    node = {"_target_": target, "name": "dirichlet_per_class", "alpha": alpha, "min_size": min_size}
    return build(node, "partition.")


def split(rule, labels, clients, seed=0):
    return rule.split(labels, None, clients, generator(seed, "partition"))


def class_counts(labels, parts, classes):
    return np.array([np.bincount(labels[part], minlength=classes) for part in parts])


def niid_bench(labels, clients, alpha, min_size, rng):
    """NIID-Bench's loop, a client and a sample at a time: class counts [clients, classes]."""
    classes = range(labels.max() + 1)
    held = [[]] * clients
    while min(len(samples) for samples in held) < min_size:
        held = [[] for _ in range(clients)]
        for c in classes:
            pool = list(rng.permutation(np.flatnonzero(labels == c)))
            share = rng.dirichlet([alpha] * clients)
            share = [p if len(samples) < len(labels) / clients else 0.0 for p, samples in zip(share, held, strict=True)]
            so_far, start = 0.0, 0
            for client in range(clients):
                so_far += share[client] / sum(share)
                end = len(pool) if client == clients - 1 else int(so_far * len(pool))
                held[client] += pool[start:end]
                start = end
    return class_counts(labels, held, len(classes))


DATA = {  # labels, clients, min_size
    "balanced": (np.arange(3000) % 10, 30, 10),
    "unbalanced": (np.repeat(np.arange(6), [5, 20, 100, 400, 1000, 1]), 20, 10),
    "all_equal": (np.arange(400) % 7, 40, 10),
    "more_clients_than_classes": (np.arange(900) % 2, 100, 3),
    "one_class": (np.zeros(100, dtype=np.int64), 7, 10),
    "one_client": (np.arange(50) % 5, 1, 10),
    "one_sample_each": (np.arange(40) % 4, 40, 1),
    "gaps_between_labels": (np.repeat([0, 5, 900], 50), 6, 10),
    "a_thousand_clients": (np.arange(50_000) % 10, 1000, 10),
}


@pytest.mark.parametrize("alpha", [1e-300, 1e-6, 1e-3, 0.3, 100.0])
@pytest.mark.parametrize(("labels", "clients", "min_size"), DATA.values(), ids=DATA.keys())
def test_every_sample_has_one_owner_and_every_client_the_minimum(alpha, labels, clients, min_size):
    parts = split(per_class(alpha, min_size), labels, clients)
    assert len(parts) == clients
    owned = np.concatenate(parts)
    assert owned.dtype == np.int64
    assert np.array_equal(np.sort(owned), np.arange(len(labels)))
    assert min(len(part) for part in parts) >= min_size


@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 0.3])
def test_same_seed_gives_the_same_partition_and_another_does_not(alpha):
    labels = np.arange(1000) % 10
    first, again, other = (split(per_class(alpha), labels, 20, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(("alpha", "digest"), [(0.3, "ef73762ec59fae8d"), (1e-3, "127211371245d3b1")])
def test_partition_of_a_seed_never_changes(alpha, digest):
    parts = split(per_class(alpha), np.arange(5000) % 10, 100)
    data = np.concatenate([np.append(part, -1) for part in parts])
    assert hashlib.sha256(data.astype("<i8").tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(("alpha", "draws"), [(100.0, 1), (1e-3, dirichlet.DRAWS), (1e-6, dirichlet.DRAWS)])
def test_the_whole_is_drawn_again_only_for_the_minimum_and_not_for_ever(monkeypatch, alpha, draws):
    made = []
    draw = dirichlet._per_class_counts
    monkeypatch.setattr(dirichlet, "_per_class_counts", lambda *a: made.append(1) or draw(*a))
    split(per_class(alpha), np.arange(50_000) % 10, 1000)
    assert len(made) == draws


def test_a_client_with_its_share_of_all_samples_gets_no_further_class():
    sizes, clients = [60, 5, 90, 30, 15], 8
    for seed in range(300):
        counts = dirichlet._per_class_counts(sizes, clients, 0.3, np.random.default_rng(seed))
        assert list(counts.sum(axis=1)) == sizes
        before = np.cumsum(counts, axis=0) - counts
        assert counts[before >= sum(sizes) / clients].sum() == 0


def test_shares_of_the_first_class_are_dirichlet_over_the_clients():
    alpha, clients, size, seeds = 0.3, 6, 20_000, 2000
    share = np.array(
        [dirichlet._per_class_counts([size, size], clients, alpha, np.random.default_rng(s))[0] for s in range(seeds)]
    )
    law = stats.beta(alpha, alpha * (clients - 1))
    for m in (1, 2):
        se = np.sqrt((law.moment(2 * m) - law.moment(m) ** 2) / seeds)  # SE of a mean of share^m
        rounding = m / size  # |floor(b) - floor(a) - (b - a)| < 1 sample
        assert np.abs(((share / size) ** m).mean(axis=0) - law.moment(m)).max() < 5 * se + rounding


def test_shares_of_the_next_class_are_dirichlet_over_the_clients_below_their_share():
    alpha, clients, size, seeds = 0.5, 6, 20_000, 1000
    laws = {k: stats.beta(alpha, alpha * (k - 1)) for k in range(2, clients + 1)}
    mean = {k: law.moment(2) for k, law in laws.items()}
    square = {k: law.moment(4) for k, law in laws.items()}
    z, variance, open_clients = 0.0, 0.0, set()
    for seed in range(seeds):
        first, second = dirichlet._per_class_counts([size, size], clients, alpha, np.random.default_rng(seed))
        takers = np.flatnonzero(first < 2 * size / clients)
        open_clients.add(k := len(takers))
        z += (second[takers[0]] / size) ** 2 - mean[k]
        variance += square[k] - mean[k] ** 2
    assert len(open_clients) > 1
    assert abs(z) < 5 * np.sqrt(variance) + seeds * 2 / size


@pytest.mark.parametrize(
    ("labels", "clients", "alpha", "min_size"),
    [
        (np.arange(200) % 5, 8, 0.3, 10),
        (np.repeat(np.arange(4), [10, 20, 30, 60]), 6, 0.5, 5),
        (np.arange(101) % 3, 4, 1.0, 1),
    ],
    ids=["balanced", "unbalanced", "remainder"],
)
def test_law_is_that_of_the_released_loop(labels, clients, alpha, min_size):
    seeds, classes = 400, labels.max() + 1
    rule = per_class(alpha, min_size)
    ours = [class_counts(labels, split(rule, labels, clients, s), classes) for s in range(seeds)]
    naive = [niid_bench(labels, clients, alpha, min_size, np.random.default_rng(s)) for s in range(seeds)]
    for statistic in (
        lambda counts: np.sort(counts.sum(axis=1)),  # sizes
        lambda counts: np.sort(counts / counts.sum(axis=1, keepdims=True), axis=1).mean(axis=0),  # class shares
        lambda counts: ((counts / counts.sum(axis=0)) ** 2).sum(axis=0),  # concentration of each class on clients
    ):
        a, b = (np.array([statistic(counts) for counts in side]) for side in (ours, naive))
        se = np.sqrt((a.var(axis=0) + b.var(axis=0)) / seeds)  # SE of a difference of two means
        assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) <= 5 * se + 1e-12).all()


@pytest.mark.parametrize("minimum", [0, 1, 3, 5])
def test_the_minimum_is_reached_by_moving_single_samples_from_the_largest(minimum):
    for seed in range(100):
        rng = np.random.default_rng(seed)
        client = rng.choice(12, size=60 + seed % 7, p=rng.dirichlet(np.full(12, 0.2)))
        sizes = np.bincount(client, minlength=12)
        wanted = sizes.copy()
        while wanted.min() < minimum:
            wanted[wanted.argmin()] += 1
            wanted[wanted.argmax()] -= 1
        after = dirichlet._with_minimum(client, 12, minimum)
        assert sorted(np.bincount(after, minlength=12)) == sorted(wanted)
        assert (after != client).sum() == np.maximum(minimum - sizes, 0).sum()


def test_the_samples_that_are_moved_are_drawn_at_random_from_all_classes():
    labels, moved, cases = np.repeat([0, 1], [8, 12]), np.zeros(20), 0
    for seed in range(1000):
        smaller = min(split(per_class(1e-6, 9), labels, 2, seed), key=len)
        if np.isin(np.arange(8), smaller).sum() < 8:  # else it was given class 0 by the draw, here always a whole class
            moved[smaller] += 1
            cases += 1
    p = 9 / len(labels)
    assert cases > 300
    assert np.abs(moved - cases * p).max() < 5 * np.sqrt(cases * p * (1 - p))  # SE of a binomial count


def test_a_minimum_that_the_samples_do_not_reach_is_refused():
    with pytest.raises(ConfigError, match=r"partition\.min_size=10: dataset=small has 99 .*at most 9 .*clients=10"):
        per_class(0.3).check_size(99, 10, "small")
    per_class(0.3).check_size(100, 10, "small")


@pytest.mark.parametrize(("alpha", "min_size", "key"), [(0.0, 10, "alpha"), (0.3, 0, "min_size")])
def test_values_out_of_range_are_refused(alpha, min_size, key):
    with pytest.raises(ConfigError, match=rf"partition\.{key}=0"):
        per_class(alpha, min_size)


def test_defaults_are_those_of_fedmrn(resolved):
    node = resolved("partition=dirichlet_per_class")["partition"]
    assert (node["alpha"], node["min_size"], node["show"]) == (0.3, 10, False)
