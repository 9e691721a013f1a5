"""A dataset as the config names it: where it is, what shape it has, and how its arrays are read.

Loading gives numpy arrays as they are on disk (uint8 images, integer labels); `fedsign.data.tensors` puts them on the
device and normalises there.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from fedsign.errors import ConfigError, DataError
from fedsign.options import Fraction, NonNegativeInt, PositiveInt, options

Array = np.ndarray[Any, Any]
Kind = Literal["image", "text", "vector"]


@dataclass(frozen=True)
class Arrays:
    """The samples of a dataset.

    Attributes:
        x_train, x_test: uint8 images [samples, H, W, C], or float vectors [samples, d].
        y_train, y_test: integer labels [samples].
        owner_train: who a training sample comes from (writer, role), integers [samples], where that is known.
    """

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    owner_train: Array | None = None


@options
class Dataset:
    """What every dataset has; a subclass reads its own files in `read`.

    Attributes:
        name: also the name of the file ``<root>/<name>.npz`` that is taken before any other source.
        root: folder of the data; null is ``$FEDSIGN_DATA``, else ``~/.cache/fedsign``.
        shape: of one sample, (C, H, W) for images.
        classes: number of labels.
        train, test: number of samples of each split.
    """

    kind: ClassVar[Kind] = "image"

    name: str
    root: str | None

    def folder(self) -> Path:
        """The folder in which files are looked for."""
        return Path(self.root or os.environ.get("FEDSIGN_DATA") or "~/.cache/fedsign").expanduser()

    def is_here(self) -> bool:
        """Whether it can be loaded without a download."""
        return True

    def fixed_clients(self) -> int | None:
        """Number of clients where the data itself fixes it, else None."""
        return None

    def check(self) -> None:
        """Refuse values that cannot be loaded, without loading. Raises ConfigError."""


@options
class ImageDataset(Dataset):
    """Labelled images, normalised per channel and augmented on the device.

    Attributes:
        shape: (C, H, W) of one image; null is read from the npz file.
        classes: number of labels; null is read from the npz file.
        train, test: number of images of the two splits; null is read from the npz file.
        mean, std: per channel, of pixel values in [0, 1].
        augment: horizontal flip with probability 1/2, then zero-padding by `crop_padding` after normalisation and a
            random crop with probability `crop_probability`; training batches only.
    """

    shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None
    classes: PositiveInt | None
    train: PositiveInt | None
    test: PositiveInt | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    augment: bool
    crop_padding: NonNegativeInt
    crop_probability: Fraction

    def npz(self) -> Path:
        """The file that is taken before any other source."""
        return self.folder() / f"{self.name}.npz"

    def read(self) -> Arrays:
        """Read the official files. Raises DataError that names the file, or says where to put it."""
        raise DataError(f"dataset.name={self.name}: no file {self.npz()}; it must hold {_NPZ_KEYS}")

    def load(self) -> Arrays:
        """Read the arrays: ``<root>/<name>.npz`` if it is there, else the official source.

        Raises:
            DataError: naming the file and what was expected of it.
        """
        return _read_npz(self.npz()) if self.npz().exists() else self.read()

    def is_here(self) -> bool:
        """Whether the npz file is there."""
        return self.npz().exists()

    def dimensions(self) -> tuple[tuple[int, int, int], int, int | None]:
        """Shape of an image (C, H, W), number of classes, number of training images (None: not known yet)."""
        if self.npz().exists():
            shape, train = _npz_shape(self.npz())
            if self.shape is not None and shape != tuple(self.shape):
                raise DataError(f"{self.npz()}: images are {shape} (C, H, W); dataset.shape says {tuple(self.shape)}")
            return shape, self.classes or _npz_classes(self.npz()), train
        if self.shape is None or self.classes is None:
            raise DataError(f"dataset.name={self.name}: no file {self.npz()}; it must hold {_NPZ_KEYS}")
        return self.shape, self.classes, self.train

    def check(self) -> None:
        """Refuse values that do not fit each other, or a file of the wrong form. Raises ConfigError, DataError."""
        channels = self.dimensions()[0][0]
        for key, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != channels:
                raise ConfigError(f"dataset.{key}={list(values)}: must have one number per channel, {channels}")
        if self.std is not None and min(self.std) <= 0:
            raise ConfigError(f"dataset.std={list(self.std)}: every number must be > 0")


_NPZ_KEYS = "x_train (uint8, NHWC or NHW), y_train, x_test, y_test"


def _read_npz(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [k for k in ("x_train", "y_train", "x_test", "y_test") if k not in file.files]
            if missing:
                raise DataError(f"{path}: has no {', '.join(missing)}; it must hold {_NPZ_KEYS}")
            arrays = Arrays(**{k: file[k] for k in ("x_train", "y_train", "x_test", "y_test")})
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable npz file ({error})") from None
    return images(arrays, path)


def images(arrays: Arrays, path: Path | str) -> Arrays:
    """Check arrays read from `path` and give images a channel axis. Raises DataError naming the file."""
    parts = {}
    for split in ("train", "test"):
        x, y = getattr(arrays, f"x_{split}"), getattr(arrays, f"y_{split}")
        if x.dtype != np.uint8 or x.ndim not in (3, 4):
            raise DataError(f"{path}: x_{split} is {x.dtype} {x.shape}; expected uint8 [N, H, W] or [N, H, W, C]")
        if y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer):
            raise DataError(f"{path}: y_{split} is {y.dtype} {y.shape}; expected integers [{len(x)}]")
        if len(y) and y.min() < 0:
            raise DataError(f"{path}: y_{split} has the label {y.min()}; labels start at 0")
        parts[f"x_{split}"] = x[..., None] if x.ndim == 3 else x
        parts[f"y_{split}"] = y.astype(np.int64)
    if parts["x_train"].shape[1:] != parts["x_test"].shape[1:]:
        raise DataError(
            f"{path}: training images are {parts['x_train'].shape[1:]}, test images "
            f"{parts['x_test'].shape[1:]}; expected the same"
        )
    return Arrays(**parts)


def _npz_shape(path: Path) -> tuple[tuple[int, int, int], int]:
    """Image shape (C, H, W) and number of training images, from the header alone."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("x_train.npy") as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape = read(member)[0]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable npz file with x_train ({error})") from None
    if len(shape) not in (3, 4):
        raise DataError(f"{path}: x_train has shape {shape}; expected [N, H, W] or [N, H, W, C]")
    channels = shape[3] if len(shape) == 4 else 1
    return (channels, shape[1], shape[2]), shape[0]


def _npz_classes(path: Path) -> int:
    arrays = _read_npz(path)
    return int(max(arrays.y_train.max(), arrays.y_test.max())) + 1


@options
class NpzDataset(ImageDataset):
    """Any ``<root>/<name>.npz``: ``dataset=npz dataset.name=NAME``."""
