"""Partitions: which client holds which training samples. Pure numpy, bounded work, equal on every platform."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedsign.errors import ConfigError
from fedsign.federation.grouping import class_pools, rank_among_equals
from fedsign.options import Positive, options

if TYPE_CHECKING:
    from fedsign.data.arrays import Array
    from fedsign.data.dataset import Dataset


@options
class Partition(ABC):
    """A rule that hands training samples to clients.

    Attributes:
        show: draw the client-by-class picture, print the sizes, and train nothing.
    """

    by_owner: ClassVar[bool] = False  # the data says who the clients are; `clients` is not used

    name: str
    show: bool = False

    def check(self, dataset: Dataset, clients: int) -> None:
        """Refuse a rule that the dataset cannot satisfy, before it is loaded. Raises ConfigError."""
        samples = dataset.training_samples()
        if samples is not None:
            self.check_size(samples, clients, dataset.name)

    def check_size(self, samples: int, clients: int, dataset: str) -> None:
        """Refuse more clients than there are training samples. Raises ConfigError."""
        if clients > samples:
            raise ConfigError(
                f"clients={clients}: partition={self.name} gives every client a sample, and dataset={dataset} "
                f"has {samples} for training; at most clients={samples}"
            )

    @abstractmethod
    def split(self, labels: Array, owners: Array | None, clients: int, rng: np.random.Generator) -> list[Array]:
        """Hand out the samples.

        Args:
            labels: integers [samples].
            owners: who each sample comes from, integers [samples], where the data says so.
            clients: number of clients N.
            rng: the partition's stream.

        Returns:
            For each client the indices of its samples, int64.

        Raises:
            ConfigError: the data does not allow the rule.
        """


@options
class Iid(Partition):
    """Random equal parts of floor(samples / N) samples; the remainder stays unused."""

    def split(self, labels: Array, owners: Array | None, clients: int, rng: np.random.Generator) -> list[Array]:
        """Consecutive chunks of a random permutation."""
        size = len(labels) // clients
        order = rng.permutation(len(labels))[: size * clients]
        return list(order.reshape(clients, size))


@options
class Dirichlet(Partition):
    """FedSMU's and FedDyn's rule: one Dirichlet over classes per client, equal sizes, without replacement.

    Clients are filled in random order, a sample at a time: draw a client among those not full, draw a class from its
    prior among the classes not used up, hand over the next sample of that class. Sizes are floor(samples / N).

    Attributes:
        alpha: concentration of the symmetric Dirichlet; small is heterogeneous.
    """

    alpha: Positive

    def split(self, labels: Array, owners: Array | None, clients: int, rng: np.random.Generator) -> list[Array]:
        """Fill the clients; at most one vectorised pass per class, whatever alpha.

        The draws between two exhaustions of a class are independent given the set of open classes, so they are made
        in one go and kept up to the first draw that finds its class used up.
        """
        size = len(labels) // clients
        pools = class_pools(labels, rng)
        left = np.array([len(pool) for pool in pools])
        prior = rng.dirichlet(np.full(len(pools), self.alpha), size=clients)
        turn = _turns(clients, size, rng)
        drawn = np.empty(len(turn), dtype=np.int64)  # class of the sample handed over at each turn

        start = 0
        while start < len(turn):
            drawn[start:] = _draw_classes(prior, turn[start:], left, rng)
            ends = [start + _first_beyond(drawn[start:] == c, left[c]) for c in range(len(pools))]
            end = min(ends)
            left -= np.bincount(drawn[start:end], minlength=len(pools))
            start = end

        sample = np.empty(len(turn), dtype=np.int64)
        for c, pool in enumerate(pools):
            at = np.flatnonzero(drawn == c)
            sample[at] = pool[: len(at)]
        by_client = np.argsort(turn, kind="stable")
        return list(sample[by_client].reshape(clients, size))


def _turns(clients: int, size: int, rng: np.random.Generator) -> Array:
    """The order in which clients receive samples: uniform among those not full, `size` turns each."""
    taken = np.zeros(clients, dtype=np.int64)
    kept: list[Array] = []
    while (open_clients := np.flatnonzero(taken < size)).size:
        picks = rng.choice(open_clients, size=int((size - taken[open_clients]).sum()))
        rank = taken[picks] + rank_among_equals(picks)  # how many samples the client has when its turn comes
        picks = picks[rank < size]  # a full client is skipped, as in drawing again
        taken += np.bincount(picks, minlength=clients)
        kept.append(picks)
    return np.concatenate(kept) if kept else np.empty(0, dtype=np.int64)


def _draw_classes(prior: Array, turn: Array, left: Array, rng: np.random.Generator) -> Array:
    """A class for each turn, from its client's prior over the classes that have samples left."""
    open_classes = np.flatnonzero(left)
    p = prior[:, open_classes]
    mass = p.sum(axis=1, keepdims=True)
    # a client all of whose prior sits on used-up classes takes from what is left, in proportion
    p = np.where(mass > 0, p / np.where(mass > 0, mass, 1), left[open_classes] / left.sum())
    cdf = np.cumsum(p, axis=1)
    cdf[:, -1] = 1.0
    u = rng.random(len(turn))
    chosen = np.zeros(len(turn), dtype=np.int64)
    for column in range(len(open_classes) - 1):  # counting beats building a [turns, classes] table
        chosen += u >= cdf[turn, column]
    return open_classes[chosen]


def _first_beyond(hit: Array, capacity: int) -> int:
    """Position of the (capacity + 1)-th true entry, or the length."""
    where = np.flatnonzero(hit)
    return int(where[capacity]) if len(where) > capacity else len(hit)
