"""A few labels per client: FedMRN's released rule, uniform label sets, and one label per client."""

import hashlib

import numpy as np
import pytest

from fedsign.config import Config, build
from fedsign.errors import ConfigError
from fedsign.randomness import generator


def few(labels, rule):
    target = "fedsign.federation.labels.LabelsPerClient"
    return build({"_target_": target, "name": "labels_per_client", "labels": labels, "rule": rule}, "partition.")


def one():
    return build({"_target_": "fedsign.federation.labels.OneLabel", "name": "one_label"}, "partition.")


def split(rule, labels, clients, seed=0):
    return rule.split(labels, None, clients, generator(seed, "partition"))


def label_sets(labels, parts):
    return [tuple(int(c) for c in np.unique(labels[part])) for part in parts]


def released_sets(clients, size, classes):
    """FedMRN's loop: the least used labels so far, the lowest first."""
    times, sets = np.zeros(classes), []
    for i in range(clients):
        chosen = np.argsort(times / (i + 1), kind="stable")[:size]
        times[chosen] += 1
        sets.append(tuple(sorted(int(c) for c in chosen)))
    return sets


RULES = {
    "random": few(3, "random"),
    "least_used": few(3, "least_used"),
    "one_label": one(),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())


@every_rule
@pytest.mark.parametrize(
    ("labels", "clients"),
    [(np.arange(3000) % 10, 100), (np.repeat(np.arange(5), [40, 300, 500, 81, 79]), 20), (np.arange(30) % 3, 9)],
    ids=["balanced", "unbalanced", "few_samples"],
)
def test_each_class_is_split_equally_among_its_holders(rule, labels, clients):
    parts = split(rule, labels, clients)
    owned = np.concatenate(parts)
    assert owned.dtype == np.int64
    assert np.array_equal(np.sort(owned), np.arange(len(labels)))
    size = getattr(rule, "labels", 1)
    counts = np.array([np.bincount(labels[part], minlength=labels.max() + 1) for part in parts])
    assert ((counts > 0).sum(axis=1) <= size).all()
    for column in counts.T:
        assert np.ptp(column[column > 0]) <= 1


@every_rule
def test_same_seed_gives_the_same_partition_and_another_does_not(rule):
    labels = np.arange(1000) % 10
    first, again, other = (split(rule, labels, 20, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("name", "digest"),
    [("random", "e36fc037414e70b6"), ("least_used", "cabfd37fb5a98adb"), ("one_label", "4d1fc8927f187512")],
)
def test_partition_of_a_seed_never_changes(name, digest):
    parts = split(RULES[name], np.arange(5000) % 10, 100)
    data = np.concatenate([np.append(part, -1) for part in parts])
    assert hashlib.sha256(data.astype("<i8").tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(
    ("clients", "size", "classes"), [(100, 3, 10), (100, 20, 100), (37, 3, 7), (5, 4, 4), (23, 1, 6), (2, 3, 10)]
)
def test_least_used_is_the_released_rule(clients, size, classes):
    labels = np.arange(classes * 200) % classes
    assert label_sets(labels, split(few(size, "least_used"), labels, clients)) == released_sets(clients, size, classes)


def test_least_used_makes_ten_triples_of_ten_classes():
    labels = np.arange(50_000) % 10
    parts = split(few(3, "least_used"), labels, 100)
    sets = label_sets(labels, parts)
    assert len(set(sets)) == 10 and all(len(s) == 3 for s in sets)
    assert sets[:4] == [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 1, 9)]
    assert sets[:10] * 10 == sets
    assert {len(part) for part in parts} <= {498, 499, 500, 501}  # thrice 5 000 samples for 30 holders


def test_least_used_makes_five_disjoint_groups_of_a_hundred_classes():
    labels = np.arange(50_000) % 100
    parts = split(few(20, "least_used"), labels, 100)
    sets = set(label_sets(labels, parts))
    assert len(sets) == 5
    assert sorted(c for s in sets for c in s) == list(range(100))
    assert [len(part) for part in parts] == [500] * 100


def test_random_sets_are_uniform():
    labels, clients, size, classes, seeds = np.arange(6000) % 6, 100, 3, 6, 30
    held = np.zeros((seeds * clients, classes))
    for seed in range(seeds):
        for i, chosen in enumerate(label_sets(labels, split(few(size, "random"), labels, clients, seed))):
            held[seed * clients + i, list(chosen)] = 1
    assert (held.sum(axis=1) == size).all()
    for together, p in (
        (held.sum(axis=0), size / classes),
        (held.T @ held, size * (size - 1) / classes / (classes - 1)),
    ):
        found = together if together.ndim == 1 else together[~np.eye(classes, dtype=bool)]
        assert np.abs(found / len(held) - p).max() < 5 * np.sqrt(p * (1 - p) / len(held))  # SE of a binomial share


def test_random_sets_differ_between_clients_and_seeds():
    labels = np.arange(5000) % 10
    sets = [label_sets(labels, split(few(3, "random"), labels, 100, seed)) for seed in (0, 1)]
    assert len(set(sets[0])) > 30
    assert sets[0] != sets[1]


@pytest.mark.parametrize(("clients", "size", "classes"), [(4, 3, 12), (5, 3, 12), (12, 1, 12), (3, 10, 12)])
def test_random_sets_leave_no_class_without_a_holder(clients, size, classes):
    labels = np.arange(classes * 20) % classes
    for seed in range(100):
        sets = label_sets(labels, split(few(size, "random"), labels, clients, seed))
        assert all(len(s) == size for s in sets)
        assert {c for s in sets for c in s} == set(range(classes))


def test_random_sets_use_as_many_classes_as_there_are_places():
    labels = np.arange(400) % 20
    for seed in range(50):
        parts = split(few(3, "random"), labels, 4, seed)
        assert len({c for s in label_sets(labels, parts) for c in s}) == 12
        assert sum(len(part) for part in parts) == 12 * 20


@pytest.mark.parametrize("clients", [10, 20, 70])
def test_one_label_gives_client_i_class_i_modulo_the_classes(clients):
    labels = np.random.default_rng(0).permutation(np.arange(7000) % 10)
    parts = split(one(), labels, clients)
    assert label_sets(labels, parts) == [(i % 10,) for i in range(clients)]
    assert [len(part) for part in parts] == [7000 // clients] * clients


def test_one_label_goes_by_the_classes_that_occur():
    labels = np.repeat([0, 5, 900], 50)
    assert label_sets(labels, split(one(), labels, 6)) == [(0,), (5,), (900,)] * 2


@pytest.mark.parametrize("clients", [15, 5, 1])
def test_one_label_needs_a_multiple_of_the_classes(resolved, clients):
    message = rf"clients={clients}: partition=one_label needs a multiple of the number of classes, 10"
    with pytest.raises(ConfigError, match=message):
        Config(resolved("partition=one_label", f"clients={clients}", "cohort=1"))
    with pytest.raises(ConfigError, match=message):
        split(one(), np.arange(100) % 10, clients)


@pytest.mark.parametrize("rule", ["random", "least_used"])
def test_more_labels_than_classes_are_refused(resolved, rule):
    message = r"partition\.labels=11: the data has 10 classes"
    with pytest.raises(ConfigError, match=message):
        Config(resolved("partition=labels_per_client", "partition.labels=11", f"partition.rule={rule}"))
    with pytest.raises(ConfigError, match=message):
        split(few(11, rule), np.arange(100) % 10, 5)


@pytest.mark.parametrize("rule", [few(1, "least_used"), few(1, "random"), one()], ids=["least_used", "random", "one"])
def test_a_client_without_a_sample_is_refused(rule):
    labels = np.repeat([0, 1], [1, 99])
    with pytest.raises(ConfigError, match=rf"clients=50: partition={rule.name} leaves \d+ of them without a sample"):
        split(rule, labels, 50)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ConfigError, match=r"partition\.rule=fair: must be one of random, least_used"):
        few(3, "fair")


def test_defaults_are_those_of_fedmrn(resolved):
    node = resolved("partition=labels_per_client")["partition"]
    assert (node["labels"], node["rule"], node["show"]) == (3, "random", False)
