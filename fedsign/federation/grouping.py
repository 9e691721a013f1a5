"""Samples by class, samples by client: the numpy that partitions share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fedsign.data.arrays import Array


def class_pools(labels: Array, rng: np.random.Generator) -> list[Array]:
    """The samples of each class that occurs, shuffled, in order of the labels."""
    sizes = np.unique(labels, return_counts=True)[1]
    by_label = np.argsort(labels, kind="stable")
    return [rng.permutation(pool) for pool in np.split(by_label, np.cumsum(sizes)[:-1])]


def by_client(samples: Array, client: Array, clients: int) -> list[Array]:
    """The samples of each client, in the order given; `client` [samples] says whose each one is."""
    sizes = np.bincount(client, minlength=clients)
    return np.split(samples[np.argsort(client, kind="stable")], np.cumsum(sizes)[:-1])


def rank_among_equals(values: Array) -> Array:
    """For each entry, how many equal ones come before it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.searchsorted(ordered, ordered)
    rank = np.empty(len(values), dtype=np.int64)
    rank[order] = np.arange(len(values)) - first
    return rank
