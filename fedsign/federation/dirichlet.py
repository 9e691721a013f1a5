"""The Dirichlet partitions of FedMRN and of FedVote; FedSMU's is `fedsign.federation.partition.Dirichlet`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedsign.errors import ConfigError
from fedsign.federation.grouping import by_client, class_pools, rank_among_equals
from fedsign.federation.partition import Partition
from fedsign.options import Positive, PositiveInt, options

if TYPE_CHECKING:
    from fedsign.data.arrays import Array

DRAWS = 20  # of a whole partition, before the minimum size is reached by moving samples


@options
class DirichletPerClass(Partition):
    """FedMRN's Non-IID-1, which is NIID-Bench's rule: a Dirichlet over clients per class, every sample to one client.

    The classes are handed out one after the other; clients that hold samples / N or more take no part in the next one.
    Sizes differ. The whole draw is repeated until every client has `min_size` samples, as in the released code, but at
    most 20 times: if the last draw fails too, samples of the largest clients, drawn at random, go one by one to those
    below the minimum.

    Attributes:
        alpha: concentration of the symmetric Dirichlet over clients; small is heterogeneous.
        min_size: samples that every client has at least.
    """

    alpha: Positive
    min_size: PositiveInt

    def check_size(self, samples: int, clients: int, dataset: str) -> None:
        """Refuse a minimum that the samples do not reach. Raises ConfigError."""
        super().check_size(samples, clients, dataset)
        if self.min_size * clients > samples:
            raise ConfigError(
                f"partition.min_size={self.min_size}: dataset={dataset} has {samples} samples for training, "
                f"at most {samples // clients} for each of clients={clients}"
            )

    def split(self, labels: Array, owners: Array | None, clients: int, rng: np.random.Generator) -> list[Array]:
        """Cut each shuffled class into consecutive pieces, one per client."""
        pools = class_pools(labels, rng)
        sizes = [len(pool) for pool in pools]
        for _ in range(DRAWS):
            counts = _per_class_counts(sizes, clients, self.alpha, rng)
            if counts.sum(axis=0).min() >= self.min_size:
                break
        client = np.repeat(np.tile(np.arange(clients), len(pools)), counts.ravel())
        mixed = rng.permutation(len(labels))
        samples, client = np.concatenate(pools)[mixed], client[mixed]
        return by_client(samples, _with_minimum(client, clients, self.min_size), clients)


def _per_class_counts(sizes: list[int], clients: int, alpha: float, rng: np.random.Generator) -> Array:
    """How many samples of each class each client gets, [classes, clients].

    Leaving clients out of a symmetric Dirichlet and renormalising is a Dirichlet over the others, which cannot have
    all its mass on those left out.
    """
    counts = np.zeros((len(sizes), clients), dtype=np.int64)
    held = np.zeros(clients, dtype=np.int64)
    for c, size in enumerate(sizes):
        takers = np.flatnonzero(held * clients < sum(sizes))
        share = rng.dirichlet(np.full(len(takers), alpha))
        cuts = (np.cumsum(share) * size).astype(np.int64)
        cuts[-1] = size
        counts[c, takers] = np.diff(cuts, prepend=0)
        held += counts[c]
    return counts


def _with_minimum(client: Array, clients: int, minimum: int) -> Array:
    """Whose each sample is once the largest clients have given, one by one, what others lack to the minimum.

    Args:
        client: whose each sample is [samples], the samples in random order.
        clients: number of clients N.
        minimum: at most samples / N.
    """
    sizes = np.bincount(client, minlength=clients)
    lack = np.maximum(minimum - sizes, 0)
    above = clients - np.cumsum(np.bincount(sizes))  # clients with more than 0, 1, 2, ... samples
    surplus = np.cumsum(above[::-1])[::-1]  # samples that clients hold beyond their first 0, 1, 2, ...
    level = np.flatnonzero(surplus >= lack.sum())[-1]  # taking from the largest ends at this size or one more
    gives = np.maximum(sizes - level, 0)
    gives[np.flatnonzero(gives)[: surplus[level] - lack.sum()]] -= 1
    out = client.copy()
    out[rank_among_equals(client) < gives[client]] = np.repeat(np.arange(clients), lack)
    return out


@options
class DirichletOverlap(Partition):
    """FedVote's rule, as released: a Dirichlet over classes per client, drawn from the whole training set each time.

    A client with class shares q takes floor(samples * q_c) samples of class c, without replacement within the client,
    and the next client draws from all samples again: sizes are equal but for up to C - 1 samples lost to rounding down,
    and samples have several owners or none. No client takes more of a class than there is; one whose counts all round
    down to 0 takes a sample of its largest share.

    Attributes:
        alpha: concentration of the symmetric Dirichlet over classes; small is heterogeneous.
        samples: that a client takes, before rounding down; null is floor(training samples / N).
    """

    alpha: Positive
    samples: PositiveInt | None

    def check_size(self, samples: int, clients: int, dataset: str) -> None:
        """Refuse to give a client more samples than there are. Raises ConfigError."""
        super().check_size(samples, clients, dataset)
        if self.samples is not None and self.samples > samples:
            raise ConfigError(
                f"partition.samples={self.samples}: dataset={dataset} has {samples} for training; at most that many"
            )

    def split(self, labels: Array, owners: Array | None, clients: int, rng: np.random.Generator) -> list[Array]:
        """One draw without replacement per client and class that it holds."""
        pools = class_pools(labels, rng)
        share = rng.dirichlet(np.full(len(pools), self.alpha), size=clients)
        counts = (share * (self.samples or len(labels) // clients)).astype(np.int64)
        counts = np.minimum(counts, [len(pool) for pool in pools])
        empty = np.flatnonzero(counts.sum(axis=1) == 0)
        counts[empty, share[empty].argmax(axis=1)] = 1
        return [
            np.concatenate([rng.choice(pools[c], row[c], replace=False, shuffle=False) for c in np.flatnonzero(row)])
            for row in counts
        ]
