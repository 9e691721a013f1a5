"""EMNIST digits with their writers (Cohen et al., 2017): 240 000 + 40 000 images of 28x28, 3 579 writers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedsign.data.arrays import Array, Arrays
from fedsign.data.dataset import ImageDataset
from fedsign.data.matlab import matlab
from fedsign.errors import DataError
from fedsign.options import options

FILE = "emnist-digits.mat"
URL = "https://biometrics.nist.gov/cs_links/EMNIST/matlab.zip"


@options
class Emnist(ImageDataset):
    """The digits split from the official MATLAB file, the one form of EMNIST that names the writers."""

    def files(self) -> list[Path] | None:
        """The mat file, in the root or under ``matlab/`` as the archive has it."""
        places = (self.folder() / FILE, self.folder() / "matlab" / FILE)
        return next(([path] for path in places if path.exists()), None)

    def place(self) -> str:
        """What to put under the root by hand."""
        return f"{FILE} (from {URL})"

    def download(self) -> None:
        """Download and unpack the official archive."""
        from torchvision.datasets.utils import download_and_extract_archive

        download_and_extract_archive(URL, str(self.folder()))

    def read(self, files: list[Path]) -> Arrays:
        """Upright images, labels and the writer of each training image."""
        content = matlab(files[0])
        try:
            dataset = content["dataset"][0, 0]
            train, test = dataset.train[0, 0], dataset.test[0, 0]
            x_train, x_test = _upright(train.images), _upright(test.images)
            y_train, y_test, writers = (
                a.reshape(-1).astype(np.int64) for a in (train.labels, test.labels, train.writers)
            )
        except (KeyError, IndexError, AttributeError, ValueError, TypeError):
            raise DataError(
                f"{files[0]}: expected dataset.train and dataset.test with images, labels, writers"
            ) from None
        return Arrays(x_train, y_train, x_test, y_test, owner_train=writers)


def _upright(pixels: Array) -> Array:
    """Images [N, 28, 28] from rows of 784 pixels in MATLAB's column order."""
    if pixels.shape[1] != 784:
        raise ValueError(f"images of {pixels.shape[1]} pixels")
    return pixels.reshape(-1, 28, 28).transpose(0, 2, 1)
