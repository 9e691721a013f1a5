"""What a run directory holds, and whether two hold the same."""

import json

import numpy as np
import pandas as pd


def metrics(run):
    return pd.read_csv(run / "metrics.csv", dtype=str).drop(columns="seconds")


def model(run):
    with np.load(run / "model.npz") as file:
        return {name: file[name] for name in file.files}


def assert_same(left, right):
    """The same numbers to the last bit, apart from the seconds."""
    pd.testing.assert_frame_equal(metrics(left), metrics(right))
    assert (left / "cohorts.csv").read_bytes() == (right / "cohorts.csv").read_bytes()
    ours, theirs = model(left), model(right)
    assert list(ours) == list(theirs)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


def assert_same_run(left, right):
    """Two finished runs are the same: in numbers, in their summaries apart from times and places, and in files."""
    assert_same(left, right)
    ours, theirs = (json.loads((run / "summary.json").read_text()) for run in (left, right))
    for key in ours.keys() - {"wall_seconds", "session_seconds", "overrides", "hardware", "git_commit"}:
        assert ours[key] == theirs[key]
    assert files(left) == files(right)


def files(run):
    """What a run left, by name, apart from the rounds of its checkpoints.

    A kill between the summary and their removal leaves the clients' states, which are of no use to anybody.
    """
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith(("checkpoint/round_", "checkpoint/state_"))}
