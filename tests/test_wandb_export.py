"""Runs that were logged to W&B are run directories again."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from fedsign import presets
from fedsign.report.grid import Index
from fedsign.report.runs import read

ROOT = Path(__file__).parents[1]
OVERRIDES = ["dataset=digits", "model=mlp", "rounds=2", "clients=10", "cohort=4", "local.epochs=1", "tracking=wandb"]


@pytest.fixture
def export(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield __import__("wandb_export")
    sys.modules.pop("wandb_export", None)


def on_wandb(config, name="one", state="finished", group="toy/table"):
    rows = [
        {"_step": 1, "_runtime": 3.0, "round": 1, "uplink_bits": 100, "test_accuracy": 0.5},
        {"_step": 2, "_runtime": 4.0, "round": 2, "uplink_bits": 200, "test_accuracy": 0.7, "mu_index": 0.25},
    ]
    summary = {"best_accuracy": 0.7, "method": "FedAvg", "_wandb": {"runtime": 4}}
    return SimpleNamespace(
        name=name, id="abc", group=group, config=config, summary=summary, state=state, scan_history=lambda: iter(rows)
    )


class Api:
    def __init__(self, *runs):
        self._runs = runs

    def runs(self, path, filters):
        assert path == "us/fedsign"
        return [run for run in self._runs if not filters or run.group == filters["group"]]


def test_a_run_of_the_server_is_a_run_directory(export, resolved, tmp_path):
    config = resolved("local.lr=1.0", "seed=3")
    (logged,) = export.online("us/fedsign", None, Api(on_wandb(config | {"local": config["local"] | {"lr": 1}})))
    path = export.write(logged, tmp_path / "runs")
    assert path.name == "one-abc"
    run = read(path)
    assert list(run.metrics["test_accuracy"]) == [0.5, 0.7]
    assert list(run.metrics.columns) == ["round", "uplink_bits", "test_accuracy", "mu_index"]
    assert run.summary["best_accuracy"] == 0.7 and run.summary["seed"] == 3
    assert Index.of([tmp_path]).paths == {presets.key(config): path}  # W&B does not keep 1 and 1.0 apart


def test_only_finished_runs_of_the_group_are_written(export, resolved, tmp_path):
    config = resolved()
    api = Api(on_wandb(config), on_wandb(config, "two", "crashed"), on_wandb(config, "three", group="other"))
    found = list(export.online("us/fedsign", "toy/table", api))
    assert [logged.name for logged in found] == ["one-abc", "two-abc"]
    assert [export.write(logged, tmp_path) is None for logged in found] == [False, True]
    assert export.write(export.Logged("x", finished=True, rows={1: {"round": 1}}), tmp_path) is None


@pytest.mark.slow
def test_offline_files_are_the_run_that_wrote_them(tmp_path):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "NETRC"))}
    env |= {"HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-m", "fedsign", *OVERRIDES, "output=run"], cwd=tmp_path, env=env, check=True)
    command = [sys.executable, str(ROOT / "scripts" / "wandb_export.py"), "run", "exported"]
    done = subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, text=True)
    assert done.stdout == "1 runs written to exported\n"
    (path,) = (tmp_path / "exported").iterdir()
    theirs, ours = tmp_path / "run", read(path)
    pd.testing.assert_frame_equal(
        ours.metrics, pd.read_csv(theirs / "metrics.csv")[ours.metrics.columns], check_dtype=False
    )
    assert yaml.safe_load((path / "config.yaml").read_text()) == yaml.safe_load((theirs / "config.yaml").read_text())
    summary = json.loads((theirs / "summary.json").read_text())
    for key in ("status", "method", "parameters", "best_accuracy", "wall_seconds", "git_commit"):
        assert ours.summary[key] == summary[key]
    assert set(Index.of([path]).paths) == set(Index.of([theirs]).paths)
