"""CIFAR-10 (Krizhevsky, 2009): 50 000 + 10 000 colour images of 32x32 pixels."""

from __future__ import annotations

import numpy as np

from fedsign.data.dataset import Arrays, ImageDataset, images
from fedsign.errors import DataError
from fedsign.options import options


@options
class Cifar10(ImageDataset):
    """CIFAR-10 from ``<root>/cifar10.npz``, or the official archive through torchvision, downloaded if need be."""

    def is_here(self) -> bool:
        """Whether the npz file or the unpacked official batches are under the root."""
        return self.npz().exists() or (self.folder() / "cifar-10-batches-py").is_dir()

    def read(self) -> Arrays:
        """Read the official python batches, downloading them first if they are not there."""
        from torchvision.datasets import CIFAR10

        try:
            train, test = (CIFAR10(str(self.folder()), train=t, download=True) for t in (True, False))
        except Exception as error:
            raise DataError(
                f"dataset=cifar10: the download failed ({type(error).__name__}); place cifar-10-batches-py/ "
                f"or cifar10.npz under {self.folder()} by hand"
            ) from None
        return images(Arrays(train.data, np.array(train.targets), test.data, np.array(test.targets)), self.folder())
