"""Frozen dataclasses of validated values: what every yaml of `conf/` turns into.

An options class states its keys, their types and their ranges; the defaults stand in its yaml alone. Nothing here
imports torch, so that a wrong value is reported before anything heavy is loaded.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform, get_args

import pydantic
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from fedsign.errors import ConfigError

T = TypeVar("T")

PositiveInt = Annotated[int, Field(gt=0, description="an integer >= 1")]
NonNegativeInt = Annotated[int, Field(ge=0, description="an integer >= 0")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, description="a number > 0")]
PositiveOrInf = Annotated[float, Field(gt=0, description="a number > 0, or inf")]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, description="a number >= 0")]
Fraction = Annotated[float, Field(gt=0, le=1, description="a number in (0, 1]")]
Share = Annotated[float, Field(ge=0, lt=1, description="a fraction in [0, 1)")]
Momentum = Annotated[float, Field(ge=0, lt=1, description="a number in [0, 1)")]
Finite = Annotated[float, Field(allow_inf_nan=False, description="a finite number")]
QuantisationLevels = Annotated[int, Field(ge=1, le=32767, description="an integer from 1 to 32767")]
Count = NonNegativeInt | Annotated[float, Field(gt=0, lt=1, description="a fraction in (0, 1)")]
Seed = Annotated[int, Field(ge=0, lt=2**63, description="an integer >= 0 and < 2^63")]
SignZero = Literal["plus", "random", "zero"]
Codes = Literal["all", "weights", "no-last-layer"]

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def options(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass whose values are checked when it is built."""
    return pydantic_dataclass(frozen=True, kw_only=True, config=_STRICT)(cls)  # type: ignore[return-value]


def count(share: float, of: int) -> int:
    """A `Count` as a number: an integer is itself, a fraction is of `of`, to the nearest and halves up."""
    return share if isinstance(share, int) else math.floor(share * of + 0.5)


def closest(value: object, allowed: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the nearest allowed name, or nothing."""
    match = difflib.get_close_matches(str(value), list(allowed), n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""


def validated(cls: Callable[..., T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Build an options class from a config node.

    Args:
        cls: a class made by `options`.
        values: key to plain value.
        prefix: the node's place in the config, for messages (``"local."``).

    Raises:
        ConfigError: on the first wrong value, naming the key, the value and what is allowed.
    """
    try:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(_one_line(cls, first, prefix, values)) from None


def _one_line(cls: Any, error: Any, prefix: str, values: Mapping[str, Any]) -> str:
    path = [str(part) for part in error["loc"]]
    key = prefix + path[0] if path else prefix.rstrip(".")
    fields = {name: field.annotation_text for name, field in _fields(cls).items()}
    kind = error["type"]
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        hint = closest(path[0], fields)
        return f"{key}: no such key{hint}; allowed: {', '.join(prefix + name for name in fields)}"
    if kind in ("missing", "missing_argument") and len(path) == 1:
        return f"{key}: missing; it must be {fields.get(path[0], 'given')}"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    field = _fields(cls).get(path[0])
    value = error["input"]
    if len(path) > 1 and isinstance(values.get(path[0]), list):
        value = tuple(values[path[0]])  # the list as a whole says more than the entry
    allowed = field.annotation_text if field else error["msg"].lower()
    hint = closest(value, field.choices) if field and isinstance(value, str) else ""
    return f"{key}={_shown(value)}: must be {allowed}{hint}"


class _FieldText:
    def __init__(self, annotation: Any, metadata: Iterable[Any]):
        self.choices: list[str] = []
        texts = [m.description for m in metadata if getattr(m, "description", None)]
        self.annotation_text = texts[0] if texts else self._describe(annotation)

    def _describe(self, annotation: Any) -> str:
        if hasattr(annotation, "__metadata__"):
            texts = [m.description for m in annotation.__metadata__ if getattr(m, "description", None)]
            return texts[0] if texts else self._describe(annotation.__origin__)
        if annotation is type(None):
            return "null"
        simple = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}
        if annotation in simple:
            return simple[annotation]
        arguments = get_args(annotation)
        if not arguments:
            return getattr(annotation, "__name__", str(annotation))
        if getattr(annotation, "__origin__", None) is Literal:
            self.choices += [str(a) for a in arguments]
            return ("one of " if len(arguments) > 1 else "") + ", ".join(_shown(a) for a in arguments)
        if getattr(annotation, "__origin__", None) in (tuple, list):
            size = "" if Ellipsis in arguments else f" of {len(arguments)}"
            return f"a list{size}, each {self._describe(arguments[0])}"
        return " or ".join(self._describe(a) for a in arguments)


def _fields(cls: Any) -> dict[str, _FieldText]:
    fields = {info.alias or name: info for name, info in cls.__pydantic_fields__.items()}
    return {name: _FieldText(info.annotation, [*info.metadata, info]) for name, info in fields.items()}


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ",".join(map(_shown, value)) + "]"
    return "null" if value is None else str(value)
