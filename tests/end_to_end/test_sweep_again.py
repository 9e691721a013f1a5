"""A sweep of twelve jobs that is killed and interrupted half-way, started again, and not overwritten."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
import yaml
from run_files import assert_same_run

from fedsign import job

JOBS = 12
GRID = ("algorithm=fedsmu,fedavg,zsign", "seed=0,1", "local.lr=0.05,0.1")
LAUNCHERS = {"basic": [], "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]}


class Sweep:
    """A sweep in a process group of its own."""

    def __init__(self, folder, overrides):
        self.folder, self.overrides = folder, overrides
        command = [sys.executable, "-m", "fedsign", "-m", *overrides]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def finished(self):
        return {path.parent for path in self.folder.glob("outputs/runs/*/summary.json")}

    def begun(self):
        """The runs with a checkpoint."""
        return {path.parents[1] for path in self.folder.glob("outputs/runs/*/checkpoint/round_*.npz")}

    def wait(self, jobs):
        """Until so many jobs are finished and another is underway."""
        while self.process.poll() is None and not (len(self.finished()) >= jobs and self.begun() - self.finished()):
            time.sleep(0.005)

    def kill(self, number):
        os.killpg(self.process.pid, number)

    def end(self):
        """Exit status and what it printed."""
        out, _ = self.process.communicate(timeout=120)
        return self.process.returncode, out


def content(runs):
    return {path: path.read_bytes() for run in runs for path in sorted(run.rglob("*")) if path.is_file()}


def changed(before):
    return [path for path, data in before.items() if path.read_bytes() != data]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_started_again_skips_what_is_finished_and_goes_on_with_the_rest(targets, tmp_path, launcher):
    overrides = ["dataset=consensus", "model=vector", f"dataset.targets={targets}", "cohort=5", "local.epochs=1",
              "rounds=60", "checkpoint.every=10", *GRID, *LAUNCHERS[launcher]]  # fmt: skip

    killed = Sweep(tmp_path, overrides)
    killed.wait(3)
    killed.kill(signal.SIGKILL)
    assert killed.end()[0] == -9
    finished, cut = killed.finished(), killed.begun() - killed.finished()
    assert 3 <= len(finished) < JOBS
    before = content(finished)

    interrupted = Sweep(tmp_path, overrides)
    interrupted.wait(7)
    interrupted.kill(signal.SIGINT)
    status, out = interrupted.end()
    assert status == 130, out
    assert "Traceback" not in out
    assert out.splitlines()[-1] == f"the sweep goes on with: {shlex.join(['fedsign', '-m', *overrides])}"
    assert out.count("finished already") == len(finished)
    assert changed(before) == []
    finished = interrupted.finished()
    cut |= interrupted.begun() - finished
    assert 7 <= len(finished) < JOBS
    before = content(finished)

    status, out = Sweep(tmp_path, overrides).end()
    assert status == 0, out
    assert out.count("finished already") == len(finished)
    assert "going on after round" in out
    assert changed(before) == []
    runs = {path.parent for path in tmp_path.glob("outputs/runs/*/summary.json")}
    assert len(runs) == JOBS == len(list(tmp_path.glob("outputs/runs/*")))
    for number, folder in enumerate(cut):
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config.pop("hydra")
        job.run(config | {"output": str(tmp_path / f"whole{number}")})
        assert_same_run(folder, tmp_path / f"whole{number}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_stops_at_the_job_that_a_signal_reaches(targets, tmp_path, number):
    overrides = ["dataset=consensus", "model=vector", f"dataset.targets={targets}", "cohort=5", "rounds=100000",
                 "checkpoint.every=10", "seed=0,1"]  # fmt: skip
    sweep = Sweep(tmp_path, overrides)
    sweep.wait(0)
    os.kill(sweep.process.pid, number)
    status, out = sweep.end()
    assert status == 128 + number
    assert "Traceback" not in out and "go on with: fedsign --config-dir" in out
    assert len(list(tmp_path.glob("outputs/runs/*"))) == 1


def test_a_signal_to_the_parent_alone_reaches_the_workers(targets, tmp_path):
    overrides = ["dataset=consensus", "model=vector", f"dataset.targets={targets}", "cohort=5", "rounds=100000",
                 "checkpoint.every=10", "seed=0,1,2", *LAUNCHERS["joblib"]]  # fmt: skip
    sweep = Sweep(tmp_path, overrides)
    while sweep.process.poll() is None and len(list(tmp_path.glob("outputs/runs/*/checkpoint/round_*20.npz"))) < 2:
        time.sleep(0.02)
    os.kill(sweep.process.pid, signal.SIGTERM)
    status, out = sweep.end()
    assert status == 143
    assert out.count("SIGTERM: stopped after round") == 2 and "Traceback" not in out
    assert len(list(tmp_path.glob("outputs/runs/*"))) == 2
