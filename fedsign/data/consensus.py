"""The consensus problem: client i minimises f_i(x) = 0.5 ||x - y_i||^2 (z-SignFedAvg, Appendix D, (63))."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from fedsign.data.arrays import Array
from fedsign.data.dataset import Dataset, Kind
from fedsign.errors import ConfigError, DataError
from fedsign.options import options


@options
class Consensus(Dataset):
    """One target vector per client; the number of clients is the number of targets.

    Attributes:
        targets: path of a float npy file [clients, d].
    """

    kind: ClassVar[Kind] = "vector"

    targets: str | None

    def fixed_clients(self) -> int:
        """Number of rows of the targets: client i holds row i."""
        return self._array(mmap=True).shape[0]

    def dimensions(self) -> tuple[tuple[int, ...], int]:
        """Length d of the vector that the clients agree on; no classes."""
        return self._array(mmap=True).shape[1:], 0

    def load(self) -> Array:
        """Targets as float32 [clients, d]. Raises DataError naming the file."""
        targets = self._array(mmap=False).astype(np.float32)
        if not np.isfinite(targets).all():
            raise DataError(f"{self.targets}: has NaN or infinite entries; expected finite numbers")
        return targets

    def _array(self, mmap: bool) -> Array:
        if self.targets is None:
            raise ConfigError("dataset.targets=null: dataset=consensus needs the path of a float npy file [clients, d]")
        path = Path(self.targets).expanduser()
        try:
            array = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"dataset.targets={path}: not a readable npy file ({error})") from None
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu" or 0 in array.shape:
            raise DataError(f"dataset.targets={path}: expected numbers of shape [clients, d]")
        return array
