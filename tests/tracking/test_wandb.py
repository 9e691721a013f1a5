"""W&B beside the CSV files: for a user who never logged in, offline, and never a question."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from offline_files import records, values

OWN = {"_step", "_timestamp", "_runtime"}
OVERRIDES = [
    "+experiment=quickstart", "dataset=digits", "model=mlp", "algorithm=fedsmu", "local.lr=0.05,1e30", "rounds=3",
    "clients=10", "cohort=4", "local.epochs=1", "eval.mu_index=true", "tracking=wandb",
]  # fmt: skip


def in_a_terminal(command, cwd, env):
    """Status and all that is shown; a question would be answered by the end of the input."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, b"\x04")
    shown = b""
    with contextlib.suppress(OSError):  # the terminal is gone when the last process has left it
        while data := os.read(ours, 4096):
            shown += data
    os.close(ours)
    return process.wait(), shown.decode(errors="replace")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep of two jobs, the second of which fails: status, what was shown, and the run folders by learning rate."""
    folder = tmp_path_factory.mktemp("sweep")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "NETRC"))}
    command = [sys.executable, "-m", "fedsign", *OVERRIDES]
    status, shown = in_a_terminal(command, folder, env | {"HOME": str(folder / "home")})
    runs = {}
    for config in folder.glob("outputs/quickstart/*/config.yaml"):
        runs[yaml.safe_load(config.read_text())["local"]["lr"]] = config.parent
    return status, shown, runs


@pytest.fixture(scope="module")
def logged(sweep):
    """``logged(0.05, "history")``: the records of that kind of the run with that learning rate."""

    def go(lr, kind):
        files = list(sweep[2][lr].glob("wandb/offline-run-*/*.wandb"))
        assert len(files) == 1
        return [getattr(record, kind) for record in records(files[0]) if record.WhichOneof("record_type") == kind]

    return go


def test_the_sweep_ends_as_it_would_without(sweep):
    status, shown, runs = sweep
    assert status == 1
    assert set(runs) == {0.05, 1e30}
    assert (runs[0.05] / "model.npz").exists() and not (runs[1e30] / "model.npz").exists()
    assert "NaN or infinite" in shown


def test_nothing_is_asked_or_announced(sweep):
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sweep[1])
    assert not re.search(r"(^|[\r\n])wandb: ", plain)
    assert "Traceback" not in sweep[1]


def test_every_row_of_the_metrics_is_logged_at_its_round(sweep, logged):
    table = pd.read_csv(sweep[2][0.05] / "metrics.csv")
    history = [values(record.item) for record in logged(0.05, "history")]
    assert [row["_step"] for row in history] == [1, 2, 3]
    assert "mu_index" in table and "zero_fraction" in table
    for row, (_, expected) in zip(history, table.iterrows(), strict=True):
        assert {key: value for key, value in row.items() if key not in OWN} == dict(expected)


def test_the_x_axis_is_the_uplink(logged):
    metrics = logged(0.05, "metric")
    assert "uplink_bits" in [metric.name for metric in metrics]
    assert [metric.step_metric for metric in metrics if metric.glob_name == "*"] == ["uplink_bits"]


@pytest.mark.parametrize("lr", [0.05, 1e30])
def test_the_config_is_the_resolved_config(sweep, logged, lr):
    stored = yaml.safe_load((sweep[2][lr] / "config.yaml").read_text())
    stored.pop("hydra")
    (run,) = logged(lr, "run")
    config = values(run.config.update)
    config.pop("_wandb")
    assert config == stored


@pytest.mark.parametrize("lr", [0.05, 1e30])
def test_every_job_is_a_run_of_its_own_grouped_by_experiment(sweep, logged, lr):
    (run,) = logged(lr, "run")
    assert (run.project, run.run_group) == ("fedsign", "quickstart")
    assert run.display_name == sweep[2][lr].name
    assert logged(0.05, "run")[0].run_id != logged(1e30, "run")[0].run_id


def test_the_summary_has_the_totals(sweep, logged):
    found = {}
    for record in logged(0.05, "summary"):
        found |= values(record.update)
    expected = json.loads((sweep[2][0.05] / "summary.json").read_text())
    for key in ("best_accuracy", "final_accuracy", "uplink_bits", "uplink_bits_formula", "downlink_bits", "rounds"):
        assert found[key] == expected[key]


@pytest.mark.parametrize(("lr", "status"), [(0.05, 0), (1e30, 1)])
def test_every_run_is_finished_with_its_status(logged, lr, status):
    assert [record.exit_code for record in logged(lr, "exit")] == [status]
