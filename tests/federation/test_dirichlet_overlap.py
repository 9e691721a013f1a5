"""FedVote's Dirichlet with overlap: sizes, the law of the counts, and how much the clients share."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from fedsign.config import build
from fedsign.errors import ConfigError
from fedsign.randomness import generator

CLIENTS, SAMPLES, CLASSES = 31, 1612, 10  # FedVote's CIFAR-10: 31 clients of 1612 samples out of 50 000
LABELS = np.random.default_rng(0).permutation(np.arange(50_000) % CLASSES)


def overlap(alpha=0.5, samples=None):
    target = "fedsign.federation.dirichlet.DirichletOverlap"
    node = {"_target_": target, "name": "dirichlet_overlap", "alpha": alpha, "samples": samples}
    return build(node, "partition.")


def split(rule, labels, clients, seed=0):
    return rule.split(labels, None, clients, generator(seed, "partition"))


def moment(m, size, alpha, classes):
    """E[k^m] of k = floor(size q), q a class's share."""
    j = np.arange(1, size + 1)
    at_least = stats.beta(alpha, alpha * (classes - 1)).sf(j / size)
    return float(((j**m - (j - 1) ** m) * at_least).sum())


@pytest.mark.parametrize("alpha", [1e-300, 1e-6, 1e-3, 0.5, 100.0])
@pytest.mark.parametrize("clients", [1, 31, 1000])
def test_a_client_has_no_sample_twice_and_its_size_up_to_rounding_down(alpha, clients):
    labels = LABELS[:20_000]
    parts = split(overlap(alpha, None if clients > 1 else 500), labels, clients)
    size = len(labels) // clients if clients > 1 else 500
    assert len(parts) == clients
    for part in parts:
        assert part.dtype == np.int64
        assert len(np.unique(part)) == len(part)
        assert size - CLASSES < len(part) <= size


def test_the_published_setting_has_the_sizes_of_the_published_files():
    sizes = [len(part) for part in split(overlap(), LABELS, CLIENTS)]
    assert min(sizes) >= SAMPLES - CLASSES + 1
    assert max(sizes) <= SAMPLES


def test_the_published_setting_has_the_distinct_samples_of_the_published_files():
    """31 clients hold 49 820 samples, of which some 31 900 are distinct.

    A client misses a sample of class c, n of them, with probability 1 - k_c/n given its counts k, so given all counts
    n (1 - prod_m (1 - k_mc/n)) samples of c are held. The moments of those products over 31 independent clients need
    E[k_c], E[k_c^2] and E[k_c k_d]; the last follows from the variance of sum_c k_c, at most (C - 1)^2 / 4 because
    rounding down takes away between 0 and C - 1. Given the counts, samples are negatively associated.
    """
    n, seeds = len(LABELS) // CLASSES, 20
    first, second = (moment(m, SAMPLES, 0.5, CLASSES) for m in (1, 2))
    mixed = ((CLASSES * first) ** 2 + (CLASSES - 1) ** 2 / 4 - CLASSES * second) / (CLASSES * (CLASSES - 1))
    missed = (1 - first / n) ** CLIENTS
    same, different = ((1 - 2 * first / n + k / n**2) ** CLIENTS - missed**2 for k in (second, mixed))
    variance = CLASSES * n**2 * (same + (CLASSES - 1) * different) + len(LABELS) * missed * (1 - missed)
    expected = len(LABELS) * (1 - missed)
    found = [len(np.unique(np.concatenate(split(overlap(), LABELS, CLIENTS, seed)))) for seed in range(seeds)]
    assert abs(np.mean(found) - expected) < 5 * np.sqrt(variance / seeds)
    assert abs(31_900 - expected) < np.sqrt(variance) < 300
    assert CLASSES * CLIENTS * first == pytest.approx(49_820, abs=1)


def test_counts_are_dirichlet_shares_rounded_down():
    labels, clients, size, alpha, seeds = np.arange(4000) % 4, 50, 40, 0.7, 40
    counts = np.array(
        [
            np.bincount(labels[p], minlength=4)
            for s in range(seeds)
            for p in split(overlap(alpha, size), labels, clients, s)
        ]
    )
    for m in (1, 2):
        mean = moment(m, size, alpha, 4)
        se = np.sqrt((moment(2 * m, size, alpha, 4) - mean**2) / len(counts))  # SE of a mean of k^m
        assert np.abs((counts**m).mean(axis=0) - mean).max() < 5 * se


def test_samples_of_a_class_are_drawn_at_random():
    labels, seeds = np.arange(60) % 3, 300
    held = np.zeros(60)
    for seed in range(seeds):
        for part in split(overlap(1.0, 12), labels, 10, seed):
            held[part] += 1
    p = moment(1, 12, 1.0, 3) / 20
    assert np.abs(held - 10 * seeds * p).max() < 5 * np.sqrt(10 * seeds * p * (1 - p))  # SE of a binomial count


def test_clients_draw_independently_of_each_other():
    labels, size, seeds = np.zeros(50, dtype=np.int64), 20, 2000
    shared = [len(np.intersect1d(*split(overlap(1.0, size), labels, 2, seed))) for seed in range(seeds)]
    law = stats.hypergeom(50, size, size)  # of two independent subsets
    assert abs(np.mean(shared) - law.mean()) < 5 * law.std() / np.sqrt(seeds)


def test_a_client_takes_no_more_of_a_class_than_there_is():
    labels = np.repeat(np.arange(3), [10, 20, 30])
    for seed in range(20):
        for part in split(overlap(1e-6, 60), labels, 5, seed):
            assert len(np.unique(part)) == len(part)
            assert len(part) in (10, 20, 30)


@pytest.mark.parametrize("samples", [1, 3])
def test_a_client_whose_counts_round_down_to_nothing_has_one_sample(samples):
    parts = split(overlap(1000.0, samples), np.arange(500) % 10, 40)
    assert [len(part) for part in parts] == [1] * 40


@pytest.mark.parametrize("alpha", [1e-6, 0.5])
def test_same_seed_gives_the_same_partition_and_another_does_not(alpha):
    labels = np.arange(1000) % 10
    first, again, other = (split(overlap(alpha), labels, 20, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_partition_of_a_seed_never_changes():
    parts = split(overlap(), np.arange(5000) % 10, 31)
    data = np.concatenate([np.append(part, -1) for part in parts])
    assert hashlib.sha256(data.astype("<i8").tobytes()).hexdigest()[:16] == "ca5b5e4ce3fe9726"


def test_more_samples_than_there_are_are_refused():
    with pytest.raises(ConfigError, match=r"partition\.samples=101: dataset=small has 100"):
        overlap(samples=101).check_size(100, 10, "small")
    overlap(samples=100).check_size(100, 10, "small")


@pytest.mark.parametrize(("alpha", "samples", "key"), [(0.0, None, "alpha"), (0.5, 0, "samples")])
def test_values_out_of_range_are_refused(alpha, samples, key):
    with pytest.raises(ConfigError, match=rf"partition\.{key}=0"):
        overlap(alpha, samples)


def test_defaults_are_those_of_fedvote(resolved):
    node = resolved("partition=dirichlet_overlap")["partition"]
    assert (node["alpha"], node["samples"], node["show"]) == (0.5, None, False)
