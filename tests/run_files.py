"""What a run directory holds, and whether two hold the same."""

import numpy as np
import pandas as pd


def metrics(run):
    return pd.read_csv(run / "metrics.csv", dtype=str).drop(columns="seconds")


def model(run):
    with np.load(run / "model.npz") as file:
        return {name: file[name] for name in file.files}


def assert_same(left, right):
    """Bitwise, apart from the seconds."""
    pd.testing.assert_frame_equal(metrics(left), metrics(right))
    assert (left / "cohorts.csv").read_bytes() == (right / "cohorts.csv").read_bytes()
    ours, theirs = model(left), model(right)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])
