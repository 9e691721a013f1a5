"""Presets: an item of a paper, its grid as a list of jobs, and the resolvers by which a preset chooses values.

A preset is ``conf/experiment/<paper>/<item>.yaml``. Nothing here imports torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedsign.config import fingerprint
from fedsign.errors import ConfigError
from fedsign.options import closest

ELSE = "else"  # the entry of a choice that stands for all other values


def conf_folder() -> Path:
    """The config groups: inside the package where it is installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def by(key: str, choices: Mapping[Any, Any], *, _root_: DictConfig) -> Any:
    """``${fedsign.by:KEY,{a: 1, b: 2}}``: the entry for the value of a key of the config; a group means its name.

    Raises ConfigError if there is none, and no entry ``else``.
    """
    value = OmegaConf.select(_root_, key)
    value = value.name if isinstance(value, DictConfig) else value
    if value in choices:
        return choices[value]
    if ELSE in choices:
        return choices[ELSE]
    allowed = ", ".join(str(choice) for choice in choices)
    raise ConfigError(f"{key}={value}: the preset has no setting for it; allowed: {allowed}")


def fidelity(published: Any, text: Any, *, _root_: DictConfig) -> Any:
    """``${fedsign.fidelity:A,B}``: A made the published number; B is what the paper says, with ``+fidelity=text``."""
    return text if _root_.get("fidelity") == "text" else published


def scaled(full: Any, others: Mapping[str, Any], *, _root_: DictConfig) -> Any:
    """``${fedsign.scaled:FULL,{small: A, smoke: B}}``: by ``scale=``; FULL where a scale has no entry."""
    return others.get(_root_.get("scale", "full"), full)


def names() -> list[str]:
    """The names of all presets."""
    folder = conf_folder() / "experiment"
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def known(item: str) -> str:
    """The item, if it is a preset. Raises ConfigError."""
    if item not in names():
        raise ConfigError(f"{item}: no such preset{closest(item, names())}; allowed: {', '.join(names())}")
    return item


@dataclass(frozen=True)
class Job:
    """One run of a preset's grid.

    Attributes:
        overrides: as Hydra's sweeper hands them to the job, without the preset itself.
        config: resolved; without ``output``, which a composition outside the command does not know.
    """

    overrides: tuple[str, ...]
    config: dict[str, Any]

    def key(self) -> str:
        """Sixteen hex digits of what is computed, on whatever machine: see `key`."""
        return key(self.config)


def key(resolved: Mapping[str, Any]) -> str:
    """Sixteen hex digits that two resolved configs share if they are the same experiment, on whatever machine."""
    hardware = {"precision": resolved["hardware"]["precision"]}
    plain = _plain({**resolved, "hardware": hardware, "dataset": {**resolved["dataset"], "root": None}})
    return fingerprint(plain)


def _plain(node: Any) -> Any:
    """The same with whole numbers as integers: ``lr=1`` is ``lr=1.0``, and W&B does not keep the two apart."""
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def jobs(item: str | None, overrides: Sequence[str] = ()) -> list[Job]:
    """Every run of a preset, in the sweep's order.

    Args:
        item: the preset; None for the runs of the overrides alone.
        overrides: as after ``fedsign -m +experiment=ITEM``; they may replace dimensions of the grid and add some.

    Raises:
        ConfigError: no such preset.
        HydraException, OmegaConfBaseException: a wrong override.
    """
    return list(_jobs([] if item is None else [f"+experiment={known(item)}"], overrides))


def _jobs(preset: list[str], overrides: Sequence[str]) -> Iterator[Job]:
    conf = conf_folder()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf), version_base="1.3"):
        for job in _grid(preset, overrides):
            config = _composed(conf, (*preset, *(o for o in job if not _is_value(o, conf)))).copy()
            try:
                for override in OverridesParser.create().parse_overrides([o for o in job if _is_value(o, conf)]):
                    OmegaConf.update(config, override.key_or_group, override.value())
            except OmegaConfBaseException:
                compose("config", [*preset, *job])  # Hydra says it better
                raise
            config.output = "outputs"
            resolved: Any = OmegaConf.to_container(config, resolve=True)
            yield Job(tuple(job), resolved)


@cache
def _composed(conf: Path, choices: tuple[str, ...]) -> DictConfig:
    """A preset and choices of the groups in `conf`; kept, since composing is slow and setting values is not."""
    return compose("config", list(choices))


def _grid(preset: list[str], overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every job: the product of the preset's sweep and what is given."""
    given = OverridesParser.create().parse_overrides(list(overrides))
    choices = [o.input_line for o in given if not o.is_sweep_override() and o.input_line is not None]
    config = compose("config", [*preset, *choices], return_hydra_config=True)
    params = config.hydra.sweeper.params or {}
    lines = [f"{k}={v}" for k, v in params.items()] + [o for o in overrides if not o.startswith("hydra")]
    batches = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(lines), None)
    return list(itertools.chain.from_iterable(batches))


def _is_value(override: str, conf: Path) -> bool:
    """Whether an override sets a value that is there, and not a choice of a group or a key of its own."""
    name = override.partition("=")[0]
    return not name.startswith(("+", "~")) and not (conf / name.replace(".", "/")).is_dir()
