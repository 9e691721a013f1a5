"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 50 000 + 10 000 colour images of 32x32 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from fedsign.data.arrays import Arrays
from fedsign.data.dataset import ImageDataset
from fedsign.errors import DataError
from fedsign.options import options


@options
class Cifar10(ImageDataset):
    """CIFAR-10 from the official python batches, through torchvision (which checks their md5)."""

    torchvision_name: ClassVar[str] = "CIFAR10"
    batches: ClassVar[tuple[str, ...]] = (
        *(f"cifar-10-batches-py/data_batch_{i}" for i in range(1, 6)),
        "cifar-10-batches-py/test_batch",
    )

    def files(self) -> list[Path] | None:
        """The unpacked batches."""
        found = [self.folder() / name for name in self.batches]
        return found if all(path.exists() for path in found) else None

    def place(self) -> str:
        """What to put under the root by hand."""
        return f"{Path(self.batches[0]).parent}/ or {self.name}.npz"

    def download(self) -> None:
        """Download and unpack by torchvision."""
        from torchvision import datasets

        getattr(datasets, self.torchvision_name)(str(self.folder()), download=True)

    def read(self, files: list[Path]) -> Arrays:
        """Images and labels in the official order."""
        from torchvision import datasets

        kind = getattr(datasets, self.torchvision_name)
        try:
            train, test = (kind(str(self.folder()), train=split) for split in (True, False))
        except Exception as error:  # unpickling a damaged file can raise anything
            raise DataError(
                f"{files[0].parent}: truncated or corrupted ({error}); delete it to download anew"
            ) from None
        return Arrays(train.data, np.array(train.targets), test.data, np.array(test.targets))


@options
class Cifar100(Cifar10):
    """CIFAR-100, fine labels."""

    torchvision_name: ClassVar[str] = "CIFAR100"
    batches: ClassVar[tuple[str, ...]] = ("cifar-100-python/train", "cifar-100-python/test")
