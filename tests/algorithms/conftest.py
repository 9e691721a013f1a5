"""Runs on a consensus problem that the test makes."""

import numpy as np
import pytest
from hydra.utils import get_class
from toys import split

CONSENSUS = ("dataset=consensus", "model=vector", "local.epochs=null")


@pytest.fixture
def consensus(run, tmp_path):
    """``consensus(y, "algorithm=fedsmu", ...)``: the run directory and the final model."""

    def go(y, *overrides):
        np.save(tmp_path / "y.npy", y)
        out = run(*CONSENSUS, f"dataset.targets={tmp_path / 'y.npy'}", f"cohort={len(y)}", *overrides)
        return out, np.load(out / "model.npz")["x"]

    return go


@pytest.fixture
def consensus_run(run, targets):
    """The final x of six rounds of 7 of the 12 clients."""

    def go(case, *overrides):
        given = (
            *split(case),
            *CONSENSUS,
            "local.steps=2",
            f"dataset.targets={targets}",
            "cohort=7",
            "rounds=6",
            *overrides,
        )
        return np.load(run(*given) / "model.npz")["x"]

    return go


@pytest.fixture
def patch(monkeypatch, resolved):
    """``patch("fedsmu", server=wrap)``: replace a method of the algorithm by ``wrap`` of it."""

    def go(case, **wrappers):
        cls = get_class(resolved(*split(case))["algorithm"]["_target_"])
        for name, wrap in wrappers.items():
            monkeypatch.setattr(cls, name, wrap(getattr(cls, name)))

    return go
