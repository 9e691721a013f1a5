"""The consensus problem: client i minimises f_i(x) = 0.5 ||x - y_i||^2 (z-SignFedAvg, Appendix D, (63))."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from fedsign.data.arrays import Array
from fedsign.data.dataset import Dataset, Kind
from fedsign.errors import ConfigError, DataError
from fedsign.options import PositiveInt, Seed, options
from fedsign.randomness import generator


@options
class Consensus(Dataset):
    """One target vector per client, from a file or drawn; the number of clients is the number of targets.

    Attributes:
        targets: path of a float npy file [clients, d]; null where they are drawn.
        dimension: d of targets drawn from N(0, I); null where there is a file.
        clients: number of drawn targets.
        draw: seed of drawn targets.
    """

    kind: ClassVar[Kind] = "vector"

    targets: str | None
    dimension: PositiveInt | None
    clients: PositiveInt
    draw: Seed

    def fixed_clients(self) -> int:
        """Number of targets: client i holds the i-th."""
        return self.clients if self._dimension() else self._array(mmap=True).shape[0]

    def dimensions(self) -> tuple[tuple[int, ...], int]:
        """Length d of the vector that the clients agree on; no classes."""
        dimension = self._dimension()
        return (dimension,) if dimension else self._array(mmap=True).shape[1:], 0

    def load(self) -> Array:
        """Targets as float32 [clients, d]. Raises DataError naming the file."""
        if dimension := self._dimension():
            return generator(self.draw, "targets").standard_normal((self.clients, dimension), dtype=np.float32)
        targets = self._array(mmap=False).astype(np.float32)
        if not np.isfinite(targets).all():
            raise DataError(f"{self.targets}: has NaN or infinite entries; expected finite numbers")
        return targets

    def check(self) -> None:
        """Refuse a file and a dimension, and neither. Raises ConfigError, DataError."""
        if (self.targets is None) == (self.dimension is None):
            raise ConfigError(
                f"dataset.targets={self.targets or 'null'} dataset.dimension={self.dimension or 'null'}: exactly one "
                "must be given, the path of a float npy file [clients, d] or the d of targets to draw"
            )

    def _dimension(self) -> int | None:
        self.check()
        return self.dimension

    def _array(self, mmap: bool) -> Array:
        assert self.targets is not None
        path = Path(self.targets).expanduser()
        try:
            array = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"dataset.targets={path}: not a readable npy file ({error})") from None
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu" or 0 in array.shape:
            raise DataError(f"dataset.targets={path}: expected numbers of shape [clients, d]")
        return array
