"""Samples as numpy arrays, and what is expected of them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
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
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
REQUIRED = ("x_train", "y_train", "x_test", "y_test")
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
    given = {key: array for key, array in vars(arrays).items() if array is not None}
    check_forms({key: (array.shape, array.dtype) for key, array in given.items()}, source)
    for split in ("train", "test"):
        y = given[f"y_{split}"]
        if y.min() < 0:
            raise DataError(f"{source}: y_{split} has a negative label; expected labels from 0")
        given[f"y_{split}"] = y.astype(np.int64)
        x = np.require(given[f"x_{split}"], requirements=["C", "W"])  # a copy only of what readers give as views
        given[f"x_{split}"] = x[..., None] if x.ndim == 3 else x
    return Arrays(**given)


def check_forms(forms: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]], source: Path | str) -> None:
    """Check the shapes and types of images and labels. Raises DataError naming their source."""
    missing = [key for key in REQUIRED if key not in forms]
    if missing:
        raise DataError(f"{source}: has no {', '.join(missing)}; it must hold {NPZ_KEYS}")
    for split in ("train", "test"):
        (shape, dtype), (labels, label_dtype) = forms[f"x_{split}"], forms[f"y_{split}"]
        if dtype != np.uint8 or len(shape) not in (3, 4):
            raise DataError(f"{source}: x_{split} is {dtype} {shape}; expected uint8 [N, H, W] or [N, H, W, C]")
        if labels != shape[:1] or not np.issubdtype(label_dtype, np.integer):
            raise DataError(f"{source}: y_{split} is {label_dtype} {labels}; expected integers [{shape[0]}]")
        if shape[0] == 0:
            raise DataError(f"{source}: y_{split} is empty; expected at least one sample")
    train, test = ((*forms[f"x_{split}"][0][1:], 1)[:3] for split in ("train", "test"))
    if train != test:
        raise DataError(f"{source}: training images are {train}, test images {test}; expected the same")
    if "owner_train" in forms and forms["owner_train"][0] != forms["y_train"][0]:
        raise DataError(f"{source}: owner_train is {forms['owner_train'][0]}; expected {forms['y_train'][0]}")


def read_npz(path: Path) -> Arrays:
    """Images from an npz file that a user may have made. Raises DataError naming the file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in (*REQUIRED, "owner_train") if key in file.files}
    except UNREADABLE as error:
        raise DataError(f"{path}: not a readable npz file ({error})") from None
    check_forms({key: (array.shape, array.dtype) for key, array in arrays.items()}, path)
    return images(Arrays(**arrays), path)


def npz_shape(path: Path) -> tuple[tuple[int, int, int], int]:
    """Image shape (C, H, W) and number of training images, from the headers alone. Raises DataError naming the file."""
    forms = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    version = np.lib.format.read_magic(member)
                    first = version == (1, 0)
                    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(member)
                    forms[name.removesuffix(".npy")] = (shape, dtype)
    except UNREADABLE as error:
        raise DataError(f"{path}: not a readable npz file ({error})") from None
    check_forms(forms, path)
    samples, height, width, channels = (*forms["x_train"][0], 1)[:4]
    return (channels, height, width), samples


def npz_classes(path: Path) -> int:
    """One more than the largest label of an npz file. Raises DataError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return 1 + max(int(file[key].max()) for key in ("y_train", "y_test"))
    except UNREADABLE as error:
        raise DataError(f"{path}: not a readable npz file with y_train and y_test ({error})") from None
