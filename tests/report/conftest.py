"""A preset of the tests' own, and runs of it written by hand with known numbers."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsign import cli, presets
from fedsign.report import grid, items

PRESET = """# @package _global_
defaults:
  - override /dataset: digits
  - override /model: mlp
  - _self_
experiment: toy/{name}
rounds: 3
report: {report}
hydra:
  mode: MULTIRUN
  sweeper:
    params:
{params}
"""
PARAMS = {"algorithm": "fedavg,fedsmu", "local.batch_size": "8,32", "seed": "0,1"}


class Toy:
    """Presets under ``toy/``, their runs and their reports.

    Attributes:
        runs, results: the folders.
    """

    def __init__(self, conf: Path, folder: Path):
        self.conf, self.runs, self.results = conf, folder / "runs", folder / "results"
        self._written = 0

    def preset(self, name: str, params: dict[str, str] | None = None, **report: Any) -> str:
        """Write a preset; its name as an item."""
        lines = "\n".join(f"      {key}: {value}" for key, value in (params or PARAMS).items())
        path = self.conf / "experiment" / "toy" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        text = PRESET.format(name=name, report=json.dumps(report), params=lines)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            presets._composed.cache_clear()
        return f"toy/{name}"

    def run(self, item: str, *overrides: str, status: str = "finished", **columns: list[Any]) -> Path:
        """Write a run of a preset's job with these overrides, a row of metrics.csv per round."""
        (job,) = presets.jobs(item, list(overrides))
        self._written += 1
        path = self.runs / "deep" / f"run{self._written}"
        path.mkdir(parents=True)
        config = job.config | {"hydra": {"run": {"dir": "x"}}}
        (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        rounds = len(next(iter(columns.values())))
        table = {"round": list(range(1, rounds + 1)), "uplink_bits": [100 * t for t in range(1, rounds + 1)]} | columns
        with (path / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))
        summary = {"status": status, "seed": job.config["seed"], "git_commit": "abc", "wall_seconds": 2.0}
        summary |= {"hardware": {"device": "a CPU"}, "versions": {"torch": "2"}}
        (path / "summary.json").write_text(json.dumps(summary))
        return path

    def reference(self, item: str, text: str) -> Path:
        """Write the paper's numbers."""
        path = self.results / "reference" / f"{item}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def grid(self, item: str, *overrides: str) -> grid.Grid:
        """The grid with what was run."""
        return grid.find(item, overrides, grid.Index.of([self.runs]))

    def report(self, item: str, *overrides: str) -> str:
        """Write the item; the page."""
        return items.write(self.grid(item, *overrides), self.results)


@pytest.fixture(scope="session")
def conf(tmp_path_factory):
    """The config groups, to which presets are added."""
    folder = tmp_path_factory.mktemp("toy") / "conf"
    shutil.copytree(presets.conf_folder(), folder)
    return folder


@pytest.fixture
def toy(conf, tmp_path, monkeypatch):
    """Presets, runs and reports of the tests' own."""
    monkeypatch.setattr(presets, "conf_folder", lambda: conf)
    cli.register_resolvers()
    return Toy(conf, tmp_path)
