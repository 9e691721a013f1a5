"""The grid of a preset and the finished runs that belong to it: found by what they computed, not by where they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fedsign import presets
from fedsign.config import flat
from fedsign.errors import ConfigError
from fedsign.report import labels
from fedsign.report.runs import SEED, Run, read
from fedsign.tracking.run_directory import ENDED, read_summary

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where libyaml is there


@dataclass
class Index:
    """All finished runs below some folders.

    Attributes:
        paths: the key of a run's config (see `presets.key`) to its directory; of twins the first by path.
        seeds: that occur, by what was trained: see `_kind`.
    """

    paths: dict[str, Path] = field(default_factory=dict)
    seeds: dict[tuple[str, ...], set[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, folders: Iterable[Path]) -> Index:
        """Look at every ``config.yaml`` at any depth; what is not a finished run, or cannot be read, is left out."""
        index = cls()
        for folder in folders:
            for file in sorted(folder.rglob("config.yaml")):
                if read_summary(file.parent).get("status") not in ENDED:
                    continue
                try:
                    config = yaml.load(file.read_text(), Loader)
                    config.pop("hydra", None)
                    key, kind, seed = presets.key(config), _kind(config), int(config[SEED])
                except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
                    continue  # of another version, or damaged
                index.paths.setdefault(key, file.parent)
                index.seeds.setdefault(kind, set()).add(seed)
        return index


def _kind(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in a config: runs that differ in them are never of one setting."""
    return tuple(str(config[group]["name"]) for group in ("dataset", "partition", "model", "algorithm"))


@dataclass
class Setting:
    """Jobs of a grid that differ in nothing but the seed.

    Attributes:
        overrides: without the seed.
        config: dotted key to value, of the first seed.
        runs: seed to finished run.
        changed: it is not one of the preset's own, because of what was overridden.
    """

    overrides: tuple[str, ...]
    config: dict[str, Any]
    runs: dict[int, Run] = field(default_factory=dict)
    changed: bool = False

    def value(self, key: str) -> Any:
        """The value of a dotted key, or the name of the method; None where the config has no such key."""
        value = labels.method(self.config) if key == labels.METHOD else self.config.get(key)
        return tuple(value) if isinstance(value, list) else value

    def values(self, keys: Iterable[str]) -> tuple[Any, ...]:
        """The values of several keys."""
        return tuple(self.value(key) for key in keys)

    def label(self, keys: Sequence[str]) -> str:
        """How they are told."""
        return labels.label(keys, self.config)


@dataclass(frozen=True)
class Grid:
    """A preset's grid and its runs.

    Attributes:
        item: the preset.
        overrides: what was changed in it.
        settings: in the sweep's order.
        jobs: of the grid.
        size: how many runs that is; jobs may be twins.
        found: number of its finished runs, with those under other seeds.
        others: how many of them are under seeds that the grid has not.
    """

    item: str
    overrides: tuple[str, ...]
    settings: list[Setting]
    jobs: list[presets.Job]
    size: int
    found: int
    others: int

    @property
    def report(self) -> dict[str, Any]:
        """The section ``report`` of the preset."""
        config = self.settings[0].config
        return {key.removeprefix("report."): v for key, v in config.items() if key.startswith("report.")}

    @property
    def runs(self) -> list[Run]:
        """All runs that were found."""
        return [run for setting in self.settings for run in setting.runs.values()]

    def groups(self, keys: Sequence[str]) -> dict[tuple[Any, ...], list[Setting]]:
        """The settings by the values of keys, in the sweep's order."""
        return grouped(self.settings, keys)


def grouped(settings: Iterable[Setting], keys: Sequence[str]) -> dict[tuple[Any, ...], list[Setting]]:
    """Settings by the values of keys, in their order."""
    groups: dict[tuple[Any, ...], list[Setting]] = {}
    for setting in settings:
        groups.setdefault(setting.values(keys), []).append(setting)
    return groups


def find(item: str, overrides: Sequence[str], index: Index) -> Grid:
    """The grid of a preset, with overrides as after ``fedsign -m +experiment=ITEM``, and its finished runs.

    Raises:
        ConfigError: no such preset.
        HydraException, OmegaConfBaseException: a wrong override.
    """
    jobs = presets.jobs(item, overrides)
    keys = {job.key() for job in jobs}
    own = keys if all(_keeps(o) for o in overrides) else _keys(item, [o for o in overrides if _keeps(o)])
    settings: dict[tuple[str, ...], Setting] = {}
    found: set[str] = set()
    for job in [*jobs, *_with_other_seeds(item, overrides, jobs, index)]:
        rest = tuple(sorted(o for o in job.overrides if not o.startswith(f"{SEED}=")))
        setting = settings.setdefault(rest, Setting(rest, flat(job.config), changed=job.key() not in own))
        path = index.paths.get(job.key())
        if path is not None and (run := read(path)) is not None:
            setting.runs[int(job.config[SEED])] = run
            found.add(job.key())
    return Grid(item, tuple(overrides), list(settings.values()), jobs, len(keys), len(found), len(found - keys))


def _with_other_seeds(
    item: str, overrides: Sequence[str], jobs: Sequence[presets.Job], index: Index
) -> list[presets.Job]:
    """The same grid under the seeds that it does not ask for and that occur among the runs."""
    if any(o.startswith(f"{SEED}=") for o in overrides):
        return []  # those seeds are what is wanted
    there = set().union(*(index.seeds.get(_kind(job.config), set()) for job in jobs))
    seeds = sorted(there - {int(job.config[SEED]) for job in jobs})
    return presets.jobs(item, [*overrides, f"{SEED}={','.join(map(str, seeds))}"]) if seeds else []


def _keeps(override: str) -> bool:
    """Whether an override leaves an experiment what the paper did."""
    return override.lstrip("+").startswith(("fidelity=", f"{SEED}=", "hardware", "tracking", "scale=full"))


def _keys(item: str, overrides: Sequence[str]) -> set[str]:
    return {job.key() for job in presets.jobs(item, overrides)}


def one_setting(grid: Grid, settings: Sequence[Setting]) -> Setting:
    """The setting of a cell, a curve or a point.

    Raises:
        ConfigError: there are several that compute different things.
    """
    keys = {key for setting in settings for key in setting.config if not key.startswith(("report.", "experiment"))}
    varying = sorted(key for key in keys if len({repr(setting.config.get(key)) for setting in settings}) > 1)
    if varying:
        raise ConfigError(f"report: the keys for {grid.item} do not tell apart what differs in {', '.join(varying)}")
    return settings[0]


def is_number(value: Any) -> bool:
    """Whether values of a key are numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool)
