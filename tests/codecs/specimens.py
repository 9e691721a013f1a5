"""Every codec, with what a row of it may decode to: what the tests of hostile bytes go through."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsign import codecs
from fedsign.codecs import Float32, Sign, Ternary, Uniform
from fedsign.codecs.codec import Codec
from fedsign.local.streams import Streams


@dataclass(frozen=True)
class Specimen:
    """A codec as a method would use it.

    Attributes:
        codec: what decodes.
        encode: values [n, d] in [-1, 1] to rows.
        legal: whether decoded values [d] are some that an honest client can have sent; they are finite already.
        variable: whether rows of the same d differ in length.
    """

    codec: Codec
    encode: Callable[[Tensor], list[Tensor]]
    legal: Callable[[Tensor], bool]
    variable: bool = False


def streams(x: Tensor) -> Streams:
    return Streams(0, 1, range(len(x)), x.device)


def among(*values: float) -> Callable[[Tensor], bool]:
    return lambda x: bool(torch.isin(x, torch.tensor(values)).all())


def uniform(k: int) -> Specimen:
    codec = Uniform(k)
    return Specimen(codec, codec.encode, among(*(torch.arange(-codec.levels, codec.levels + 1) / codec.levels)))


# A codec that is not here fails `test_every_codec_has_specimens`: add one of it for every kind of row that it makes.
SPECIMENS = {
    "float32": Specimen(Float32(), Float32().encode, lambda x: True),
    "sign_plus": Specimen(Sign("plus"), lambda x: Sign("plus").encode(x, streams(x)), among(-1, 1)),
    "sign_random": Specimen(Sign("random"), lambda x: Sign("random").encode(x, streams(x)), among(-1, 1)),
    "ternary": Specimen(Ternary(), Ternary().encode, among(-1, 0, 1)),
    "uniform_2": uniform(2),
    "uniform_3": uniform(3),
    "uniform_8": uniform(8),
}


def classes() -> set[type[Codec]]:
    """Every codec of the package that can be made."""
    for module in pkgutil.iter_modules(codecs.__path__):
        importlib.import_module(f"{codecs.__name__}.{module.name}")
    found, left = set(), [Codec]
    while left:
        subclasses = [cls for cls in left.pop().__subclasses__() if cls.__module__.startswith(codecs.__name__)]
        left += subclasses
        found |= {cls for cls in subclasses if not cls.__abstractmethods__}
    return found
