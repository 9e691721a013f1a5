"""Partitions: exact sizes, disjoint samples, bounded work, and the law of FedDyn's sequential rule."""

import hashlib
import math
import random

import numpy as np
import pytest
import yaml
from scipy import stats

from fedsign.config import build
from fedsign.errors import ConfigError
from fedsign.federation import partition
from fedsign.presets import conf_folder
from fedsign.randomness import generator


def rule_of(name, **values):
    node = yaml.safe_load((conf_folder() / "partition" / f"{name}.yaml").read_text())
    return build(node | values, "partition.")


def iid():
    return rule_of("iid")


def dirichlet(alpha):
    return rule_of("dirichlet", alpha=alpha)


def split(rule, labels, clients, seed=0):
    return rule.split(labels, None, clients, generator(seed, "partition"))


def class_counts(labels, parts, classes):
    return np.array([np.bincount(labels[part], minlength=classes) for part in parts])


def feddyn_counts(labels, clients, alpha, seed):
    """FedDyn's loop, one sample at a time, with its re-draws: class counts [clients, classes]."""
    rng = random.Random(seed)
    pool = np.bincount(labels).tolist()
    classes = range(len(pool))
    prior = np.random.default_rng(seed).dirichlet([alpha] * len(pool), size=clients).tolist()
    room = [len(labels) // clients] * clients
    counts = np.zeros((clients, len(pool)))
    while any(room):
        client = rng.randrange(clients)
        if not room[client]:
            continue
        room[client] -= 1
        chosen = rng.choices(classes, prior[client])[0]
        while not pool[chosen]:
            chosen = rng.choices(classes, prior[client])[0]
        pool[chosen] -= 1
        counts[client, chosen] += 1
    return counts


RULES = {
    "iid": iid(),
    "alpha_0.25": dirichlet(0.25),
    "alpha_100": dirichlet(100.0),
    "alpha_1e-3": dirichlet(1e-3),
    "alpha_1e-6": dirichlet(1e-6),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())

LABELS = {
    "balanced": (np.arange(3000) % 10, 30),
    "unbalanced": (np.repeat(np.arange(6), [5, 20, 100, 400, 1000, 1]), 20),
    "remainder": (np.arange(997) % 7, 10),
    "more_clients_than_classes": (np.arange(500) % 2, 100),
    "one_class": (np.zeros(100, dtype=np.int64), 7),
    "one_client": (np.arange(50) % 5, 1),
    "one_sample_each": (np.arange(40) % 4, 40),
    "gaps_between_labels": (np.repeat([0, 5, 900], 50), 6),
    "fifty_thousand": (np.arange(50_000) % 10, 1000),
}
every_data = pytest.mark.parametrize(("labels", "clients"), LABELS.values(), ids=LABELS.keys())


@every_rule
@every_data
def test_clients_get_equal_sizes_and_no_sample_has_two_owners(rule, labels, clients):
    parts = split(rule, labels, clients)
    assert [len(part) for part in parts] == [len(labels) // clients] * clients
    owned = np.concatenate(parts)
    assert owned.dtype == np.int64
    assert len(np.unique(owned)) == len(owned)
    assert owned.min() >= 0
    assert owned.max() < len(labels)


@every_rule
def test_same_seed_gives_the_same_partition_and_another_does_not(rule):
    labels = np.arange(1000) % 10
    first, again, other = (np.stack(split(rule, labels, 20, seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("rule", "digest"), [(iid(), "9087be880e32b5da"), (dirichlet(0.25), "a67c262ea4215b67")], ids=["iid", "dirichlet"]
)
def test_partition_of_a_seed_never_changes(rule, digest):
    parts = np.stack(split(rule, np.arange(5000) % 10, 100))
    assert hashlib.sha256(parts.astype("<i8").tobytes()).hexdigest()[:16] == digest


@every_data
@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 0.25])
def test_dirichlet_makes_at_most_one_pass_per_class(monkeypatch, alpha, labels, clients):
    passes = []
    draw = partition._draw_classes
    monkeypatch.setattr(partition, "_draw_classes", lambda *a: passes.append(1) or draw(*a))
    split(dirichlet(alpha), labels, clients)
    assert len(passes) <= len(np.unique(labels))


def test_iid_counts_follow_sampling_without_replacement():
    labels, clients, size = np.arange(4000) % 4, 200, 20
    share = class_counts(labels, split(iid(), labels, clients), 4) / size
    law = stats.hypergeom(4000, 1000, size)
    fourth = law.expect(lambda k: (k - law.mean()) ** 4)
    se = math.sqrt((fourth - law.var() ** 2) / clients) / size**2  # SE of a second moment: sqrt((mu_4 - var^2)/n)
    assert np.abs(((share - 0.25) ** 2).mean(axis=0) - law.var() / size**2).max() < 5 * se


def test_large_alpha_is_nearly_iid_and_small_alpha_nearly_one_class():
    labels = np.arange(20_000) % 10
    largest = {a: class_counts(labels, split(dirichlet(a), labels, 100), 10).max(axis=1) / 200 for a in (1e4, 1e-3)}
    assert largest[1e4].max() < 0.3
    assert np.median(largest[1e-3]) > 0.8


OPEN = {  # classes, samples per client; sizes just below samples // clients leave every class pool open
    "two_classes": (2, 2, 0.3),
    "three_classes": (3, 2, 0.5),
    "ten_classes": (10, 2, 0.1),
    "three_samples": (2, 3, 2.0),
}


@pytest.mark.parametrize(("classes", "size", "alpha"), OPEN.values(), ids=OPEN.keys())
def test_shares_are_dirichlet_multinomial_while_no_class_is_used_up(classes, size, alpha):
    clients, seeds = 600, 20
    labels = np.arange(clients * (size + 1) - 1) % classes
    counts = np.stack(
        [class_counts(labels, split(dirichlet(alpha), labels, clients, s), classes) for s in range(seeds)]
    )
    assert (counts.sum(axis=1) < np.bincount(labels)).all()
    share = counts.reshape(-1, classes) / size
    law = stats.betabinom(size, alpha, alpha * (classes - 1))  # one class's count is beta-binomial
    p, a = 1 / classes, alpha * classes
    second = p**2 + p * (1 - p) * (size + a) / (size * (1 + a))  # of a Dirichlet-multinomial share
    moments = [law.expect(lambda k, m=m: (k / size) ** m) for m in range(5)]
    assert moments[1:3] == pytest.approx([p, second])
    for m in (1, 2):
        se = math.sqrt((moments[2 * m] - moments[m] ** 2) / len(share))  # SE of a mean of share^m
        assert np.abs((share**m).mean(axis=0) - moments[m]).max() < 5 * se


def test_samples_of_a_class_are_handed_out_at_random():
    labels, draws = np.arange(60) % 3, 3000
    first = np.bincount([split(dirichlet(1.0), labels, 2, seed)[0][0] for seed in range(draws)], minlength=60)
    p = 1 / 60
    assert np.abs(first - draws * p).max() < 5 * math.sqrt(draws * p * (1 - p))  # SE of a binomial count


@pytest.mark.parametrize(
    ("labels", "clients", "alpha"),
    [
        (np.arange(120) % 4, 6, 0.8),
        (np.repeat(np.arange(4), [10, 20, 30, 60]), 6, 1.0),
        (np.arange(65) % 3, 8, 5.0),
    ],
    ids=["balanced", "unbalanced", "remainder"],
)
def test_law_is_that_of_the_sequential_rule(labels, clients, alpha):
    seeds, classes = 400, labels.max() + 1
    size = len(labels) // clients
    ours = [class_counts(labels, split(dirichlet(alpha), labels, clients, s), classes) for s in range(seeds)]
    naive = [feddyn_counts(labels, clients, alpha, seed) for seed in range(seeds)]
    for statistic in (
        lambda counts: np.sort(counts / size, axis=1).mean(axis=0),  # sorted class shares of a client
        lambda counts: ((counts / size) ** 2).mean(axis=0),  # concentration of each class on clients
    ):
        a, b = (np.array([statistic(counts) for counts in side]) for side in (ours, naive))
        se = np.sqrt((a.var(axis=0) + b.var(axis=0)) / seeds)  # SE of a difference of two means
        assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) <= 5 * se).all()


@pytest.mark.parametrize("rule", [iid(), dirichlet(0.25)], ids=["iid", "dirichlet"])
def test_more_clients_than_samples_are_refused(rule):
    with pytest.raises(ConfigError, match=r"clients=101: .*at most clients=100"):
        rule.check_size(100, 101, "small")
    rule.check_size(100, 100, "small")


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), float("nan")])
def test_alpha_must_be_positive_and_finite(alpha):
    with pytest.raises(ConfigError, match=r"partition\.alpha"):
        dirichlet(alpha)
