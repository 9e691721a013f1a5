"""Partitions that give every client a few classes: FedMRN's Non-IID-2 and z-SignFedAvg's one digit per client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from fedsign.errors import ConfigError
from fedsign.federation.grouping import by_client, class_pools
from fedsign.federation.partition import Partition
from fedsign.options import PositiveInt, options

if TYPE_CHECKING:
    from fedsign.data.arrays import Array
    from fedsign.data.dataset import Dataset


@options
class LabelsPerClient(Partition):
    """FedMRN's Non-IID-2: every client holds a set of labels; a class is shuffled and split equally among its holders.

    Attributes:
        labels: number of labels of a client.
        rule: how the sets are chosen. ``random``, as the paper says: uniform, after which labels that nobody holds
            take the place of ones held more than once, as far as there are such. ``least_used``, as released: client
            after client takes the labels that the fewest clients hold so far, the lowest first, so that there are few
            different sets (10 of 3 out of 10 labels, 5 disjoint ones of 20 out of 100) and no draw.
    """

    labels: PositiveInt
    rule: Literal["random", "least_used"]

    def check(self, dataset: Dataset, clients: int) -> None:
        """Refuse more labels per client than there are. Raises ConfigError."""
        super().check(dataset, clients)
        self._check_labels(dataset.dimensions()[1])

    def _check_labels(self, classes: int) -> None:
        if self.labels > classes:
            raise ConfigError(f"partition.labels={self.labels}: the data has {classes} classes; at most that many")

    def split(self, labels: Array, owners: Array | None, clients: int, rng: np.random.Generator) -> list[Array]:
        """Choose the label sets, then deal each class; a class that nobody holds stays unused."""
        pools = class_pools(labels, rng)
        self._check_labels(len(pools))
        if self.rule == "random":
            held = _random_sets(clients, self.labels, len(pools), rng)
        else:
            held = _least_used_sets(clients, self.labels, len(pools))
        return _deal(pools, held, self.name)


@options
class OneLabel(Partition):
    """z-SignFedAvg's extremely non-iid split: client i holds class i mod C alone, split equally among its holders."""

    def check(self, dataset: Dataset, clients: int) -> None:
        """Refuse a number of clients that leaves some class with more holders than another. Raises ConfigError."""
        super().check(dataset, clients)
        self._check_clients(clients, dataset.dimensions()[1])

    def _check_clients(self, clients: int, classes: int) -> None:
        if clients % classes:
            raise ConfigError(
                f"clients={clients}: partition={self.name} needs a multiple of the number of classes, {classes}"
            )

    def split(self, labels: Array, owners: Array | None, clients: int, rng: np.random.Generator) -> list[Array]:
        """Deal each class to its clients."""
        pools = class_pools(labels, rng)
        self._check_clients(clients, len(pools))
        return _deal(pools, _least_used_sets(clients, 1, len(pools)), self.name)


def _least_used_sets(clients: int, size: int, classes: int) -> Array:
    """Label sets [clients, size] of taking the least used labels, lowest first: they go round the classes in turn."""
    return np.arange(clients * size).reshape(clients, size) % classes


def _random_sets(clients: int, size: int, classes: int, rng: np.random.Generator) -> Array:
    """Uniform label sets [clients, size], then every label held where there are enough places."""
    held = np.argsort(rng.random((clients, classes)), axis=1)[:, :size]
    for missing in np.setdiff1d(np.arange(classes), held):
        spare = np.flatnonzero(np.bincount(held.ravel(), minlength=classes)[held.ravel()] > 1)
        if len(spare) == 0:
            break
        held.flat[rng.choice(spare)] = missing
    return held


def _deal(pools: list[Array], held: Array, name: str) -> list[Array]:
    """Split each class equally among its holders; the first ones get the remainder.

    Args:
        pools: samples of each class.
        held: classes of each client [clients, size].
        name: of the partition.
    """
    samples, client = [], []
    for c, pool in enumerate(pools):
        holders = np.flatnonzero((held == c).any(axis=1))
        if len(holders):
            samples.append(pool)
            client.append(np.sort(holders[np.arange(len(pool)) % len(holders)]))
    parts = by_client(np.concatenate(samples), np.concatenate(client), len(held))
    if empty := sum(len(part) == 0 for part in parts):
        raise ConfigError(
            f"clients={len(held)}: partition={name} leaves {empty} of them without a sample, because their labels "
            "have more holders than samples; choose fewer clients"
        )
    return parts
