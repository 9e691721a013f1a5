"""SVHN (Netzer et al., 2011), cropped digits: 73 257 + 26 032 colour images of 32x32 pixels; "extra" is not used."""

from __future__ import annotations

from pathlib import Path

from fedsign.data.arrays import Arrays
from fedsign.data.dataset import ImageDataset
from fedsign.data.matlab import matlab
from fedsign.errors import DataError
from fedsign.options import options

FILES = ("train_32x32.mat", "test_32x32.mat")


@options
class Svhn(ImageDataset):
    """SVHN from the official mat files in the root; the official label 10 is the digit 0."""

    def files(self) -> list[Path] | None:
        """The two mat files."""
        found = [self.folder() / name for name in FILES]
        return found if all(path.exists() for path in found) else None

    def place(self) -> str:
        """What to put under the root by hand."""
        return " and ".join(FILES)

    def download(self) -> None:
        """Download by torchvision."""
        from torchvision.datasets import SVHN

        for split in ("train", "test"):
            SVHN(str(self.folder()), split=split, download=True)

    def read(self, files: list[Path]) -> Arrays:
        """Images [N, 32, 32, 3] and labels 0..9."""
        parts = []
        for path in files:
            content = matlab(path)
            try:
                parts += [content["X"].transpose(3, 0, 1, 2), content["y"].reshape(-1).astype("int64") % 10]
            except (KeyError, ValueError, TypeError, AttributeError):
                raise DataError(f"{path}: expected X [H, W, 3, N] and y [N, 1]") from None
        return Arrays(*parts)
