"""Tiny-ImageNet (Stanford CS231n): 200 classes, 100 000 + 10 000 colour images of 64x64; validation is for testing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedsign.data.arrays import Array, Arrays
from fedsign.data.dataset import ImageDataset
from fedsign.errors import DataError
from fedsign.options import options

FOLDER = "tiny-imagenet-200"
URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


@options
class TinyImageNet(ImageDataset):
    """The official folder of JPEG files; reading it takes minutes once, then it comes from the cache."""

    def files(self) -> list[Path] | None:
        """The list of classes and the list of validation labels, which stand for the folder."""
        found = [self.folder() / FOLDER / "wnids.txt", self.folder() / FOLDER / "val" / "val_annotations.txt"]
        return found if all(path.exists() for path in found) else None

    def place(self) -> str:
        """What to put under the root by hand."""
        return f"{FOLDER}/ (from {URL})"

    def download(self) -> None:
        """Download and unpack the official archive."""
        from torchvision.datasets.utils import download_and_extract_archive

        download_and_extract_archive(URL, str(self.folder()))

    def read(self, files: list[Path]) -> Arrays:
        """Images in the order of ``wnids.txt``, then of their names; labels are positions in ``wnids.txt``."""
        wnids, annotations = files
        names = _lines(wnids)
        train = [sorted((wnids.parent / "train" / name / "images").glob("*.JPEG")) for name in names]
        for name, found in zip(names, train, strict=True):
            if not found:
                raise DataError(f"{wnids.parent / 'train' / name}: has no images/*.JPEG")
        label = {name: i for i, name in enumerate(names)}
        rows = [line.split("\t") for line in _lines(annotations)]
        try:
            y_test = np.array([label[row[1]] for row in rows])
        except (KeyError, IndexError):
            raise DataError(f"{annotations}: expected lines of image, class of wnids.txt, ... between tabs") from None
        return Arrays(
            _images([path for found in train for path in found]),
            np.repeat(np.arange(len(names)), [len(found) for found in train]),
            _images([annotations.parent / "images" / row[0] for row in rows]),
            y_test,
        )


def _lines(path: Path) -> list[str]:
    try:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable text ({error})") from None
    if not lines:
        raise DataError(f"{path}: is empty")
    return lines


def _images(paths: Sequence[Path]) -> Array:
    from PIL import Image, UnidentifiedImageError
    from rich.progress import track

    out = np.empty((len(paths), 64, 64, 3), dtype=np.uint8)
    for i, path in enumerate(track(paths, description="reading images", transient=True)):
        try:
            pixels = np.asarray(Image.open(path).convert("RGB"))
        except (OSError, UnidentifiedImageError):
            raise DataError(f"{path}: not a readable image") from None
        if pixels.shape != out.shape[1:]:
            raise DataError(f"{path}: is {pixels.shape}; expected {out.shape[1:]}")
        out[i] = pixels
    return out
