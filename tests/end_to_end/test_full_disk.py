"""Disks that are full or read-only, and folders of others: one line, and what was written so far is whole."""

import contextlib
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from run_files import assert_same_run

from fedsign.errors import ConfigError, FedsignError
from fedsign.tracking.progress import RoundProgress
from fedsign.tracking.run_directory import RunDirectory

STATEFUL = ("algorithm=fedsmu", "algorithm.bits=32")


@pytest.fixture
def disk(tmp_path):
    """``disk("2m")``: an empty file system of that size, mounted at the returned path."""
    path = tmp_path / "disk"
    path.mkdir()

    def mount(size):
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("a file system can be mounted by root alone, where it is allowed to")
        return path

    yield mount
    subprocess.run(["umount", "--lazy", str(path)], capture_output=True)


def remount(disk, options):
    done = subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def large(tmp_path):
    """A problem whose states take 12 x 3 x 40 kB, and its checkpoints 40 kB each."""
    np.save(tmp_path / "large.npy", np.random.default_rng(0).normal(size=(12, 10_000)))
    problem = ("dataset=consensus", "model=vector", f"dataset.targets={tmp_path / 'large.npy'}", "cohort=5")
    return (*problem, "local.epochs=1", "rounds=12", "checkpoint.every=1")


def whole_lines(path):
    text = path.read_text()
    assert text.endswith("\n")
    table = pd.read_csv(path)
    assert list(table["round"]) == list(range(1, len(table) + 1))
    return len(table)


@pytest.mark.parametrize("method", [("algorithm=fedavg",), STATEFUL], ids=["fedavg", "stateful"])
@pytest.mark.parametrize("size", ["100k", "300k"])
def test_a_full_disk_ends_the_run_in_one_line_and_it_goes_on_when_there_is_room(
    run, large, disk, tmp_path, method, size
):
    whole, mine = run(*large, *method), disk(size) / "mine"
    fits = False
    with contextlib.suppress(FedsignError):
        run(*large, *method, f"output={mine}")
        fits = True
    assert fits == (method[0] == "algorithm=fedavg" and size != "100k")
    if not fits:
        with pytest.raises(FedsignError, match=r"^output=.*/disk/mine: No space left on device; what was .* intact$"):
            run(*large, *method, f"output={mine}")
        assert not (mine / "summary.json").exists() and not (mine / "model.npz").exists()
        remount(mine.parent, "size=20m")
        run(*large, *method, f"output={mine}")
    assert_same_run(mine, whole)


def test_rows_are_whole_when_there_is_no_room_for_another(run, large, disk, tmp_path):
    """Nothing but the tables is written while the rounds run."""
    mine = disk("60k") / "mine"
    with pytest.raises(FedsignError, match="No space left on device"):
        run(*large, "rounds=2000", "checkpoint.every=null", f"output={mine}")
    assert 0 < whole_lines(mine / "cohorts.csv") < 2000
    assert 0 < whole_lines(mine / "metrics.csv") < 2000


def test_a_disk_that_turns_read_only_ends_the_run_in_one_line(run, large, disk, tmp_path, monkeypatch):
    whole, mine = run(*large, *STATEFUL), disk("20m") / "mine"
    update = RoundProgress.update

    def protect(self, t, row, bits):
        update(self, t, row, bits)
        if t == 4:
            os.sync()
            remount(mine.parent, "ro")

    overrides = (*large, *STATEFUL, f"output={mine}")
    with monkeypatch.context() as patch, pytest.raises(FedsignError, match=r"^output=.*mine: Read-only file system; "):
        patch.setattr(RoundProgress, "update", protect)
        patch.setattr(RunDirectory, "locked", lambda self: contextlib.nullcontext())  # an open file keeps it writable
        run(*overrides)
    assert whole_lines(mine / "metrics.csv") == whole_lines(mine / "cohorts.csv") == 4
    with pytest.raises(ConfigError, match=r"^output=.*mine: is not writable$"):
        run(*overrides)
    with pytest.raises(ConfigError, match=r"^output=.*other: cannot be created \(Read-only file system\)$"):
        run(*large, f"output={mine.parent / 'other'}")
    remount(mine.parent, "rw")
    assert_same_run(run(*overrides), whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_data_are_read_ends_at_once(targets, tmp_path, number):
    script = (
        "import sys, numpy, fedsign.data.consensus as module, time\n"
        "def load(self):\n"
        "    print('reading', flush=True)\n"
        "    time.sleep(600)\n"
        "module.Consensus.load = load\n"
        "from fedsign.cli import main\n"
        "main()\n"
    )
    overrides = ["dataset=consensus", "model=vector", f"dataset.targets={targets}", "cohort=5", f"output={tmp_path}/a"]
    command = [sys.executable, "-c", script, *overrides]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "reading\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert (out, err) == ("", "")


def test_a_signal_during_an_evaluation_ends_after_it_with_a_checkpoint(run, large, tmp_path, monkeypatch, capsys):
    from fedsign.data.tasks import ConsensusTask
    from fedsign.interrupt import Interrupted

    evaluate, mine, seen = ConsensusTask.evaluate, tmp_path / "mine", []

    def signalled(self, *arguments):
        seen.append(1)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(ConsensusTask, "evaluate", signalled)
        run(*large, "checkpoint.every=null", f"output={mine}")
    assert "SIGTERM: stopped after round 3; go on with: " in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in (mine / "checkpoint").glob("round_*")] == ["round_000003.npz"]
    assert_same_run(run(*large, "checkpoint.every=null", f"output={mine}"), run(*large, "checkpoint.every=null"))
