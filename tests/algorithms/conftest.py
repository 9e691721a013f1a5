"""Runs on a consensus problem that the test makes."""

import numpy as np
import pytest

CONSENSUS = ("dataset=consensus", "model=vector", "local.epochs=null")


@pytest.fixture
def consensus(run, tmp_path):
    """``consensus(y, "algorithm=fedsmu", ...)``: the run directory and the final model."""

    def go(y, *overrides):
        np.save(tmp_path / "y.npy", y)
        out = run(*CONSENSUS, f"dataset.targets={tmp_path / 'y.npy'}", f"cohort={len(y)}", *overrides)
        return out, np.load(out / "model.npz")["x"]

    return go
