"""The partition that the data brings along: a client per writer, per role."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedsign.errors import ConfigError
from fedsign.federation.grouping import by_client
from fedsign.federation.partition import Partition
from fedsign.options import options

if TYPE_CHECKING:
    from fedsign.data.arrays import Array
    from fedsign.data.dataset import Dataset


@options
class Natural(Partition):
    """Each owner of samples is a client, in the order of their ids; `clients` is not used."""

    by_owner: ClassVar[bool] = True

    def check(self, dataset: Dataset, clients: int) -> None:
        """Nothing can be said before the owners are loaded."""

    def split(self, labels: Array, owners: Array | None, clients: int, rng: np.random.Generator) -> list[Array]:
        """Group the samples by owner, in the order of the data. Raises ConfigError where owners are unknown."""
        if owners is None:
            raise ConfigError(f"partition={self.name}: the dataset does not say who its samples come from")
        ids, client = np.unique(owners, return_inverse=True)
        return by_client(np.arange(len(owners)), client, len(ids))
