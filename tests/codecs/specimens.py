"""Every codec, with what a row of it may decode to: what the tests of hostile bytes go through."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedsign import codecs
from fedsign.codecs import (
    QSGD,
    EntropyCoded,
    Float32,
    Hadamard,
    HeavySign,
    Integer,
    Mask,
    MaskedNoise,
    ScaledSign,
    Sign,
    StochasticSign,
    Ternary,
    TopK,
    Uniform,
)
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


def magnitudes(most: int, nonzero: int | None = None) -> Callable[[Tensor], bool]:
    """At most so many |x| other than zero, and `nonzero` such entries."""

    def legal(x: Tensor) -> bool:
        left = x[x != 0].abs()
        return len(left.unique()) <= most and (nonzero is None or len(left) <= nonzero)

    return legal


def sparse(ratio: float, most: int | None = None) -> Callable[[Tensor], bool]:
    """At most a share of the entries, at least one, of at most so many |x|."""
    return lambda x: magnitudes(most or len(x), max(1, int(ratio * len(x))))(x)


def uniform(k: int) -> Specimen:
    codec = Uniform(k)
    return Specimen(codec, codec.encode, among(*(torch.arange(-codec.levels, codec.levels + 1) / codec.levels)))


def drawn(codec: Any, legal: Callable[[Tensor], bool], variable: bool = False) -> Specimen:
    """A codec whose `encode` takes the clients' streams."""
    return Specimen(codec, lambda x: codec.encode(x, streams(x)), legal, variable)


def anything(x: Tensor) -> bool:
    return True


# A codec that is not here fails `test_every_codec_has_specimens`: add one of it for every kind of row that it makes.
SPECIMENS = {
    "float32": Specimen(Float32(), Float32().encode, anything),
    "sign_plus": drawn(Sign("plus"), among(-1, 1)),
    "sign_random": drawn(Sign("random"), among(-1, 1)),
    "ternary": drawn(Ternary(), among(-1, 0, 1)),
    "uniform_2": uniform(2),
    "uniform_3": uniform(3),
    "uniform_8": uniform(8),
    "mask": Specimen(Mask(), lambda x: Mask().encode(x > 0), among(0, 1)),
    "masked_noise": Specimen(
        MaskedNoise(False, "bernoulli", 0.5),
        lambda x: MaskedNoise(False, "bernoulli", 0.5).encode(x, range(len(x)), True, streams(x)),
        among(-0.5, 0, 0.5),
    ),
    "integer": Specimen(Integer(-5, 5), lambda x: Integer(-5, 5).encode((5 * x).round()), among(*range(-5, 6))),
    "qsgd_1": drawn(QSGD(1, "linf"), magnitudes(1)),
    "qsgd_5": drawn(QSGD(5, "l2"), magnitudes(5)),
    "scaled_sign": drawn(ScaledSign("plus"), magnitudes(1)),
    "scaled_sign_zero": drawn(ScaledSign("zero"), magnitudes(1)),
    "stochastic_sign": drawn(StochasticSign(2.0), magnitudes(1)),
    "topk": drawn(TopK(0.2), sparse(0.2)),
    "topk_shortest": drawn(TopK(0.2, "shortest"), sparse(0.2), variable=True),
    "heavy_sign": drawn(HeavySign(0.2, "plus"), sparse(0.2, 1)),
    "hadamard_1": drawn(Hadamard(1, "mse"), anything),
    "hadamard_3": drawn(Hadamard(3, "unbiased"), anything),
    "entropy_sign": drawn(EntropyCoded(Sign("plus")), among(-1, 1), variable=True),
    "entropy_qsgd": drawn(EntropyCoded(QSGD(5, "l2")), magnitudes(5), variable=True),
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
