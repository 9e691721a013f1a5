"""Samples as numpy arrays, and what is expected of them."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedsign.errors import DataError

Array = np.ndarray[Any, Any]
# What reading a damaged or foreign file as npz can raise.
UNREADABLE = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    EOFError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
NPZ_KEYS = "x_train (uint8, NHWC or NHW), y_train, x_test, y_test"


@dataclass(frozen=True)
class Arrays:
    """Labelled images.

    Attributes:
        x_train, x_test: uint8 [samples, H, W, C].
        y_train, y_test: int64 labels [samples].
        owner_train: who a training sample comes from, integers [samples], where that is known.
    """

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    owner_train: Array | None = None


def images(arrays: Arrays, source: Path | str) -> Arrays:
    """Check images and labels, and give images a channel axis. Raises DataError naming their source."""
    parts = {}
    for split in ("train", "test"):
        x, y = getattr(arrays, f"x_{split}"), getattr(arrays, f"y_{split}")
        if x.dtype != np.uint8 or x.ndim not in (3, 4):
            raise DataError(f"{source}: x_{split} is {x.dtype} {x.shape}; expected uint8 [N, H, W] or [N, H, W, C]")
        if y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer):
            raise DataError(f"{source}: y_{split} is {y.dtype} {y.shape}; expected integers [{len(x)}]")
        if len(y) == 0 or y.min() < 0:
            raise DataError(f"{source}: y_{split} is empty or has a negative label; expected labels from 0")
        x = np.require(x, requirements=["C", "W"])  # a copy only of what readers give as views
        parts[f"x_{split}"] = x[..., None] if x.ndim == 3 else x
        parts[f"y_{split}"] = y.astype(np.int64)
    shapes = [parts[f"x_{split}"].shape[1:] for split in ("train", "test")]
    if shapes[0] != shapes[1]:
        raise DataError(f"{source}: training images are {shapes[0]}, test images {shapes[1]}; expected the same")
    owners = arrays.owner_train
    if owners is not None and owners.shape != arrays.y_train.shape:
        raise DataError(f"{source}: owner_train is {owners.shape}; expected {arrays.y_train.shape}")
    return Arrays(**parts, owner_train=owners)


def read_npz(path: Path) -> Arrays:
    """Images from an npz file that a user may have made. Raises DataError naming the file."""
    required = ("x_train", "y_train", "x_test", "y_test")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [k for k in required if k not in file.files]
            if missing:
                raise DataError(f"{path}: has no {', '.join(missing)}; it must hold {NPZ_KEYS}")
            owners = file["owner_train"] if "owner_train" in file.files else None
            arrays = Arrays(**{k: file[k] for k in required}, owner_train=owners)
    except UNREADABLE as error:
        raise DataError(f"{path}: not a readable npz file ({error})") from None
    return images(arrays, path)


def npz_shape(path: Path) -> tuple[tuple[int, int, int], int]:
    """Image shape (C, H, W) and number of training images, from the header alone. Raises DataError."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("x_train.npy") as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape = read(member)[0]
    except UNREADABLE as error:
        raise DataError(f"{path}: not a readable npz file with x_train ({error})") from None
    if len(shape) not in (3, 4):
        raise DataError(f"{path}: x_train has shape {shape}; expected [N, H, W] or [N, H, W, C]")
    channels = shape[3] if len(shape) == 4 else 1
    return (channels, shape[1], shape[2]), shape[0]


def npz_classes(path: Path) -> int:
    """One more than the largest label of an npz file. Raises DataError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return 1 + max(int(file[key].max()) for key in ("y_train", "y_test"))
    except UNREADABLE as error:
        raise DataError(f"{path}: not a readable npz file with y_train and y_test ({error})") from None
