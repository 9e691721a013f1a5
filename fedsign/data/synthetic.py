"""Random samples in the shape of a dataset: for trying out a command, or timing it, where the data are not there."""

from __future__ import annotations

import numpy as np

from fedsign.data.arrays import Array, Arrays
from fedsign.randomness import generator

OWNED = 20  # consecutive training samples of one owner
TESTED = 10  # training samples per test sample


def random_images(samples: int, shape: tuple[int, int, int], classes: int) -> Arrays:
    """Random bytes with balanced labels, and an owner for every 20 training images.

    Args:
        samples: number of training images; a tenth as many, at least one, are for testing.
        shape: (C, H, W) of an image.
        classes: number of labels.
    """
    c, h, w = shape
    rng = generator(0, "synthetic")
    tests = synthetic_tests(samples)
    x = rng.integers(256, size=(samples + tests, h, w, c), dtype=np.uint8)
    y = rng.permutation(np.arange(samples + tests) % classes)
    return Arrays(x[:samples], y[:samples], x[samples:], y[samples:], owners(samples))


def synthetic_tests(samples: int) -> int:
    """How many samples are for testing, beside so many for training."""
    return max(1, samples // TESTED)


def owners(samples: int) -> Array:
    """Who each training sample comes from."""
    return np.arange(samples) // OWNED
