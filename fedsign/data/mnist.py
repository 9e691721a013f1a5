"""MNIST (LeCun et al., 1998) and Fashion-MNIST (Xiao et al., 2017): idx files, packed or not."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np

from fedsign.data.arrays import Array, Arrays
from fedsign.data.dataset import ImageDataset
from fedsign.errors import DataError
from fedsign.options import options

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@options
class Mnist(ImageDataset):
    """MNIST from idx files in the root, or downloaded by torchvision into ``<root>/MNIST/raw``."""

    torchvision_name: ClassVar[str] = "MNIST"
    folders: ClassVar[tuple[str, ...]] = ("MNIST/raw", "mnist", ".")

    def files(self) -> list[Path] | None:
        """The four idx files, with or without .gz, from the first folder that has them all."""
        for folder in self.folders:
            found = [_either(self.folder() / folder / name) for name in FILES]
            if all(found):
                return [path for path in found if path is not None]
        return None

    def place(self) -> str:
        """What to put under the root by hand."""
        return f"the four idx files ({FILES[0]}[.gz], ...)"

    def download(self) -> None:
        """Download by torchvision."""
        from torchvision import datasets

        getattr(datasets, self.torchvision_name)(str(self.folder()), download=True)

    def read(self, files: list[Path]) -> Arrays:
        """Images and labels in the official order."""
        x_train, y_train, x_test, y_test = (read_idx(file) for file in files)
        return Arrays(x_train, y_train, x_test, y_test)


@options
class FashionMnist(Mnist):
    """Fashion-MNIST; the files of Debian's package dataset-fashion-mnist are found where it installs them."""

    torchvision_name: ClassVar[str] = "FashionMNIST"
    folders: ClassVar[tuple[str, ...]] = (
        "FashionMNIST/raw", "fashion-mnist", ".", "/usr/share/datasets/fashion-mnist",
    )  # fmt: skip


def read_idx(path: Path) -> Array:
    """An idx file of unsigned bytes, packed or not. Raises DataError naming the file."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be unpacked ({error})") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != 8:
        raise DataError(f"{path}: not an idx file of unsigned bytes")
    start = 4 + 4 * data[3]
    shape = [int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4)]
    expected = start + math.prod(shape)
    if len(data) != expected:
        raise DataError(f"{path}: has {len(data)} bytes; its header says {expected}")
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


def _either(path: Path) -> Path | None:
    packed = path.with_name(path.name + ".gz")
    return path if path.exists() else packed if packed.exists() else None
