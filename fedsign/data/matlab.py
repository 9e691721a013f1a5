"""MATLAB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedsign.errors import DataError


def matlab(path: Path) -> dict[str, Any]:
    """The variables of a mat file, structures as nested objects. Raises DataError naming the file."""
    from scipy.io import loadmat

    try:
        return dict(loadmat(path, squeeze_me=False, struct_as_record=False))
    except Exception as error:  # a damaged file can raise anything
        raise DataError(f"{path}: truncated or not a MATLAB file ({type(error).__name__})") from None
