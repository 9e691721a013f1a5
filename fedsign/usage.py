"""Hydra's errors as one line each: the key, the value, what is allowed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from fedsign.options import closest

# Keys that are not in every config, and how they are given.
ADDED = {
    "scale": "belongs to a preset, +experiment=...; without one +scale=smoke",
    "fidelity": "is added with a plus, +fidelity=text",
}


def one_line(error: Exception, arguments: Sequence[str], conf: Path) -> str:
    """What a user did wrong, given the exception that Hydra or OmegaConf raised for it.

    Args:
        error: the exception.
        arguments: of the command line.
        conf: the folder of the config groups.
    """
    text = str(error)
    if match := re.match(r"ConfigError raised while resolving interpolation: (.*)", text):  # of our own resolvers
        return match.group(1)
    if isinstance(error, OverrideParseException):
        return f"{error.override}: must have the form key=value ({text.splitlines()[0].strip()})"
    if match := re.search(r"Could not find '([^'/]+)/([^']+)'", text):
        group, name = match.groups()
        allowed = _choices(group, conf)
        return f"{group}={name}: no such choice{closest(name, allowed)}; allowed: {', '.join(allowed)}"
    if match := re.search(r"Could not override '([^']+)'", text):
        key = match.group(1)
        if key in ADDED:
            return f"{key}: {ADDED[key]}"
        if (conf / key).is_dir():
            return f"{key}: a preset is added with a plus, +{key}=..."
        siblings = _keys_beside(key, arguments, conf)
        known = ", ".join(siblings) or "nothing of that name; see fedsign --help"
        return f"{key}: no such key{closest(key, siblings)}; allowed: {known}"
    if match := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{match.group(1)}: several values make a sweep; add -m"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}: must be given"
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    cause = error.__cause__
    if cause is not None and (reason := str(cause).splitlines()) and reason[0] not in first:
        return f"{first}: {reason[0]}"
    return first


def empty_choice(arguments: Sequence[str], conf: Path) -> str:
    """What to say of a config group that was set to null."""
    empty = [a for a in arguments if (conf / a.partition("=")[0]).is_dir() and a.partition("=")[2] in ("null", "")]
    group = empty[0].partition("=")[0] if empty else "a config group"
    return f"{group}=null: must be one of {', '.join(_choices(group, conf))}"


def _choices(group: str, conf: Path) -> list[str]:
    return sorted(path.relative_to(conf / group).with_suffix("").as_posix() for path in (conf / group).rglob("*.yaml"))


def _keys_beside(key: str, arguments: Sequence[str], conf: Path) -> list[str]:
    """The keys that exist where `key` was looked for, under the groups that the command line chose."""
    choices = [a for a in arguments if "=" in a and not a.startswith("-") and _is_choice(a, conf)]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf), version_base="1.3"):
            config = compose("config", choices)
    except Exception:  # the choices are wrong too; the first error is the one to show
        return []
    node: Any = config
    *parents, _ = key.split(".")
    for parent in parents:
        node = node.get(parent) if OmegaConf.is_dict(node) else None
    if not OmegaConf.is_dict(node):
        return [] if parents else sorted(str(k) for k in config)
    prefix = "".join(f"{p}." for p in parents)
    return [f"{prefix}{k}" for k in node if not str(k).startswith("_")]


def _is_choice(argument: str, conf: Path) -> bool:
    group, _, name = argument.lstrip("+").partition("=")
    return (conf / group).is_dir() and (conf / group / f"{name}.yaml").exists()
