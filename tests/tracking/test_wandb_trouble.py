"""W&B that fails, is killed or goes on: the run is as it would be without, and W&B has every row once."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import wandb
from offline_files import sessions

from fedsign.tracking.offline import last_step
from fedsign.tracking.progress import RoundProgress
from fedsign.tracking.weights_and_biases import WandbRun

OFFLINE = ("rounds=6", "checkpoint.every=2", "tracking=wandb", "tracking.mode=offline")
# Runs configs in one process; in round 3 of the first, what its first argument says happens.
PROCESS = """
import json, os, signal, subprocess, sys, time
from fedsign import job
from fedsign.tracking.progress import RoundProgress

def services():
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "wandb-core"], capture_output=True, text=True)
    return found.stdout.split()

def trouble(self, t, row, bits, update=RoundProgress.update):
    update(self, t, row, bits)
    if t == 3 and sys.argv[1] == "kill the run":
        os.kill(os.getpid(), signal.SIGKILL)
    if t == 3 and sys.argv[1] == "kill W&B":
        assert services()
        for service in services():
            os.kill(int(service), signal.SIGKILL)
        time.sleep(0.3)

RoundProgress.update = trouble
for config in json.loads(sys.argv[2]):
    job.run(config)
    RoundProgress.update = lambda *arguments: None
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No account, no settings, and no service of another test."""
    for name in [*os.environ]:
        if name.startswith(("WANDB", "NETRC")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def consensus(targets):
    return ("dataset=consensus", "model=vector", f"dataset.targets={targets}", "cohort=5")


@pytest.fixture
def process(resolved):
    """``process("kill W&B", [overrides, ...])``: those runs in a process of their own."""

    def go(trouble, runs):
        configs = json.dumps([resolved(*overrides) for overrides in runs])
        command = [sys.executable, "-c", PROCESS, trouble, configs]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    return go


def metrics(run):
    return pd.read_csv(run / "metrics.csv").drop(columns="seconds")


def warnings(err):
    return [line for line in err.splitlines() if line.startswith("fedsign: warning: W&B failed")]


class PowerCutError(Exception):
    pass


def test_a_run_that_goes_on_is_the_same_run_and_logs_no_step_twice(run, consensus, tmp_path, monkeypatch):
    overrides = (*consensus, *OFFLINE, f"output={tmp_path / 'mine'}")

    def cut(self, t, row, bits):
        if t == 3:
            raise PowerCutError

    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(RoundProgress, "update", cut)
        run(*overrides)
    wandb.teardown()  # waits for what it writes
    run(*overrides)
    wandb.teardown()
    (first, before, _), (second, after, _) = sessions(tmp_path / "mine")
    assert first == second and len(first) == 1
    assert before == [1, 2, 3] and after == [4, 5, 6]  # round 3 came after the checkpoint and was run again


@pytest.mark.parametrize("trouble", ["kill the run", "kill W&B"])
def test_rows_that_died_in_the_buffers_of_wandb_are_logged_when_the_run_goes_on(
    process, run, consensus, tmp_path, trouble
):
    mine, other = (
        (*consensus, *OFFLINE, f"output={tmp_path / 'mine'}"),
        (*consensus, *OFFLINE, f"output={tmp_path / 'other'}"),
    )
    done = process(trouble, [mine, other])
    if trouble == "kill the run":
        assert done.returncode == -9
        run(*mine)
        wandb.teardown()
        assert len({identity for ids, _, _ in sessions(tmp_path / "mine") for identity in ids}) == 1
        logged = [(steps, rows) for _, steps, rows in sessions(tmp_path / "mine")]
    else:
        assert (done.returncode, len(warnings(done.stderr))) == (0, 1), done.stderr
        assert "Traceback" not in done.stderr and "Connection lost" in done.stderr
        run(*consensus, "rounds=6", f"output={tmp_path / 'plain'}")
        pd.testing.assert_frame_equal(metrics(tmp_path / "mine"), metrics(tmp_path / "plain"))
        logged = [(steps, rows) for _, steps, rows in sessions(tmp_path / "other")]  # the next run has W&B again
    assert sorted(step for steps, _ in logged for step in steps) == [1, 2, 3, 4, 5, 6]
    rows = sorted((row for _, rows in logged for row in rows), key=lambda row: row["_step"])
    table = metrics(tmp_path / ("mine" if trouble == "kill the run" else "other"))
    assert [row["uplink_bits"] for row in rows] == list(table["uplink_bits"])
    assert [row["objective"] for row in rows] == list(table["objective"])
    assert all("test_accuracy" not in row for row in rows)


@pytest.mark.parametrize("trouble", ["a file in its place", "no key", "no network"])
def test_wandb_that_cannot_start_is_a_warning(run, consensus, tmp_path, capfd, monkeypatch, trouble):
    (tmp_path / "mine").mkdir()
    overrides = [*consensus, *OFFLINE, f"output={tmp_path / 'mine'}"]
    if trouble == "a file in its place":
        (tmp_path / "mine/wandb").write_text("")
    else:
        overrides += ["tracking.mode=online"]
    if trouble == "no network":
        for name, value in (("API_KEY", "a" * 40), ("BASE_URL", "http://127.0.0.1:1"), ("INIT_TIMEOUT", "2")):
            monkeypatch.setenv(f"WANDB_{name}", value)
    plain = run(*consensus, "rounds=6")
    capfd.readouterr()
    mine = run(*overrides)
    assert len(warnings(capfd.readouterr().err)) == 1
    pd.testing.assert_frame_equal(metrics(mine), metrics(plain))
    assert json.loads((mine / "summary.json").read_text())["status"] == "finished"


class Stub:
    """A W&B run that has what the server has."""

    def __init__(self, step, failing=()):
        self.step, self.failing, self.steps, self.summary, self.finished = step, failing, [], {}, 0

    def define_metric(self, *arguments, **keywords):
        pass

    def log(self, row, step):
        if step in self.failing:
            raise ConnectionError("no\nnetwork")
        self.steps.append(step)

    def finish(self, exit_code):
        self.finished += 1


@pytest.mark.parametrize(("step", "logged"), [(0, [1, 2, 3, 4]), (3, [3, 4]), (5, []), (9, [])])
def test_what_the_server_has_is_not_logged_again(resolved, consensus, tmp_path, monkeypatch, step, logged):
    stub = Stub(step)
    monkeypatch.setattr(wandb, "init", lambda **keywords: stub)
    from fedsign.config import Config

    rows = [{"round": str(t), "uplink_bits": "7", "test_accuracy": ""} for t in (1, 2, 3)]
    tracked = WandbRun(Config(resolved(*consensus, *OFFLINE, "tracking.mode=online")), tmp_path, rows)
    tracked.log({"round": 4, "uplink_bits": 8})
    assert stub.steps == logged


def test_wandb_that_fails_later_warns_once_and_is_left_alone(resolved, consensus, tmp_path, monkeypatch, capsys):
    stub = Stub(0, failing=(2,))
    monkeypatch.setattr(wandb, "init", lambda **keywords: stub)
    from fedsign.config import Config

    tracked = WandbRun(Config(resolved(*consensus, *OFFLINE)), tmp_path, [])
    for t in (1, 2, 3):
        tracked.log({"round": t})
    tracked.finish({"rounds": 3}, failed=False)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "fedsign: warning: W&B failed (ConnectionError: no); metrics.csv has everything"
    assert (stub.steps, stub.finished) == ([1], 0)


def test_the_last_step_is_read_up_to_where_a_file_was_cut(run, consensus, tmp_path):
    folder = run(*consensus, *OFFLINE)
    wandb.teardown()
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    identity, whole = path.stem.removeprefix("run-"), path.read_bytes()
    assert last_step(folder, identity) == 6
    assert last_step(folder, "another") == 0
    steps = []
    for length in range(0, len(whole), 23):
        path.write_bytes(whole[:length])
        steps.append(last_step(folder, identity))
    assert steps == sorted(steps) and {0, 1, 6} <= set(steps)
