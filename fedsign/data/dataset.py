"""A dataset as the config names it: where it is, what shape it has, and how its arrays are read.

Reading gives numpy arrays as they are on disk (uint8 images, integer labels); `fedsign.data.tasks` puts them on the
device and normalises there.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

from fedsign.data.arrays import NPZ_KEYS, Array, Arrays, images, npz_classes, npz_shape, read_npz
from fedsign.data.cache import cached
from fedsign.data.synthetic import random_images, synthetic_tests
from fedsign.errors import ConfigError, DataError
from fedsign.options import Finite, Fraction, NonNegativeInt, PositiveInt, Share, options

Kind = Literal["image", "text", "vector"]
Statistics = tuple[Finite, ...] | Literal["train"] | None


@options
class Dataset(ABC):
    """What every dataset has.

    Attributes:
        name: also the name of the file ``<root>/<name>.npz`` that is taken before any other source.
        root: folder of the data; null is ``$FEDSIGN_DATA``, else ``~/.cache/fedsign``.
        synthetic: number of random training samples to take instead of the data, a tenth as many for testing; nothing
            can be learned from them. null: the data.
    """

    kind: ClassVar[Kind] = "image"

    name: str
    root: str | None
    synthetic: PositiveInt | None

    def held_out(self) -> float:
        """The fraction of every client's samples that is held out for validation."""
        return 0.0

    def folder(self) -> Path:
        """The folder in which files are looked for."""
        return Path(self.root or os.environ.get("FEDSIGN_DATA") or "~/.cache/fedsign").expanduser()

    def is_here(self) -> bool:
        """Whether it can be loaded without a download."""
        return True

    def fixed_clients(self) -> int | None:
        """Number of clients where the data itself fixes it, else None."""
        return None

    def training_samples(self) -> int | None:
        """Number of training samples; None where it is not known before loading."""
        return None

    def test_samples(self) -> int | None:
        """Number of samples that a model is tested on; None where it is not known before loading."""
        return None

    @abstractmethod
    def dimensions(self) -> tuple[tuple[int, ...], int]:
        """Shape of a sample as a model sees it, (C, H, W) for images, and number of classes. Raises DataError."""

    def check(self) -> None:
        """Refuse values that cannot be loaded, without loading. Raises ConfigError, DataError."""


@options
class SampledDataset(Dataset):
    """Samples that clients share out.

    Attributes:
        validation: fraction of every client's samples that it does not train on; accuracy on them together is logged.
    """

    validation: Share

    def held_out(self) -> float:
        """The fraction of every client's samples that is held out for validation."""
        return self.validation


@options
class ImageDataset(SampledDataset):
    """Labelled images, normalised per channel and augmented on the device.

    Attributes:
        shape: (C, H, W) of one image; null is read from the npz file.
        classes: number of labels; null is read from the npz file.
        train, test: number of images of the two splits; null is read from the npz file.
        mean, std: of pixel values in [0, 1], one number per channel; ``train`` measures the training split as a whole;
            null leaves pixels in [0, 1].
        test_mean, test_std: the same for the test split; null is as in training.
        augment: horizontal flip with probability 1/2, then zero-padding by `crop_padding` after normalisation and a
            random crop with probability `crop_probability`; training batches only.
    """

    shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None
    classes: PositiveInt | None
    train: PositiveInt | None
    test: PositiveInt | None
    mean: Statistics
    std: Statistics
    test_mean: tuple[Finite, ...] | None
    test_std: tuple[Finite, ...] | None
    augment: bool
    crop_padding: NonNegativeInt
    crop_probability: Fraction

    def npz(self) -> Path:
        """The file that is taken before any other source."""
        return self.folder() / f"{self.name}.npz"

    def files(self) -> list[Path] | None:
        """The official files, if they are all there."""
        return None

    def place(self) -> str:
        """What to put under the root by hand."""
        return self.npz().name

    def download(self) -> None:
        """Bring the official files under the root; whatever it raises, the user is told what to place by hand."""
        raise DataError("there is nowhere to download it from")

    def fetch(self) -> list[Path]:
        """Download the official files. Raises DataError saying what to place where if they cannot be had."""
        reason = "the files are still not there"
        print(f"downloading {self.name} into {self.folder()}")
        try:
            self.folder().mkdir(parents=True, exist_ok=True)
            self.download()
        except Exception as error:  # whatever a download can raise, the remedy is the same
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
        found = self.files()
        if found is None:
            by_hand = f"place {self.place()} under {self.folder()} by hand"
            raise DataError(f"dataset={self.name}: the download failed ({reason}); {by_hand}")
        return found

    def read(self, files: list[Path]) -> Arrays:
        """Read the official files. Raises DataError naming the file."""
        raise NotImplementedError(f"{type(self).__name__} must say how its files are read")

    def load(self) -> Arrays:
        """Read the arrays: ``<root>/<name>.npz`` if it is there, else the official files, once, through the cache.

        With `synthetic` set they are drawn instead.

        Raises:
            DataError: naming the file and what was expected of it.
        """
        if self.synthetic:
            shape, classes = self.dimensions()
            return random_images(self.synthetic, shape, classes)
        if self.npz().exists():
            return read_npz(self.npz())
        files = self.files() or self.fetch()

        def read() -> dict[str, Array]:
            arrays = images(self.read(files), files[0].parent)
            return {key: array for key, array in vars(arrays).items() if array is not None}

        return Arrays(**cached(self.name, files, read))

    def is_here(self) -> bool:
        """Whether the npz file or the official files are there."""
        return self.synthetic is not None or self.npz().exists() or self.files() is not None

    def dimensions(self) -> tuple[tuple[int, int, int], int]:
        """Shape of an image (C, H, W) and number of classes. Raises DataError."""
        if self.npz().exists() and not (self.synthetic and self.shape):
            shape, _ = npz_shape(self.npz())
            if self.shape is not None and shape != self.shape:
                raise DataError(f"{self.npz()}: images are {shape} (C, H, W); dataset.shape says {self.shape}")
            return shape, self.classes or npz_classes(self.npz())
        if self.shape is None or self.classes is None:
            raise DataError(f"dataset.name={self.name}: no file {self.npz()}; it must hold {NPZ_KEYS}")
        return self.shape, self.classes

    def training_samples(self) -> int | None:
        """Number of training images."""
        if self.synthetic:
            return self.synthetic
        return npz_shape(self.npz())[1] if self.npz().exists() else self.train

    def test_samples(self) -> int | None:
        """Number of test images, of the official files where the data are not synthetic."""
        return synthetic_tests(self.synthetic) if self.synthetic else self.test

    def check(self) -> None:
        """Refuse values that do not fit each other, or a file of the wrong form. Raises ConfigError, DataError."""
        channels = self.dimensions()[0][0]
        for key in ("mean", "std", "test_mean", "test_std"):
            values = getattr(self, key)
            if not isinstance(values, tuple):
                continue
            if len(values) != channels:
                raise ConfigError(f"dataset.{key}={list(values)}: must have one number per channel, {channels}")
            if key.endswith("std") and min(values) <= 0:
                raise ConfigError(f"dataset.{key}={list(values)}: every number must be > 0")


@options
class NpzDataset(ImageDataset):
    """Any ``<root>/<name>.npz``: ``dataset=npz dataset.name=NAME``."""

    def fetch(self) -> list[Path]:
        """There is no other source. Raises DataError naming the file and what it must hold."""
        raise DataError(f"dataset.name={self.name}: no file {self.npz()}; it must hold {NPZ_KEYS}")
