"""A client whose update is NaN: the run stops and names it, or goes on as if it had not been drawn."""

import numpy as np
import pandas as pd
import pytest
import torch
from run_files import metrics, model

from fedsign import simulator
from fedsign.errors import FedsignError
from fedsign.execution import executor, serial
from fedsign.federation.state import ClientStates
from fedsign.interrupt import Interrupted
from fedsign.tracking.progress import RoundProgress

DIGITS = ("dataset=digits", "model=mlp", "model.hidden=[16]", "clients=10", "cohort=6", "local.epochs=1", "rounds=4")
GRADIENT = ("local.epochs=null", "local.steps=1")
METHODS = {
    "fedavg": ("algorithm=fedavg",),
    "fedavg-weighted": ("algorithm=fedavg", "algorithm.weighting=samples"),
    "fedsmu": ("algorithm=fedsmu",),
    "fedsmu-tail": ("algorithm=fedsmu", "algorithm.codes=weights", "eval.mu_index=true"),
    "fedsmu-32": ("algorithm=fedsmu", "algorithm.bits=32"),
    "zsign": ("algorithm=zsign",),
    "fedlion": ("algorithm=fedlion",),
    "signsgd": ("algorithm=signsgd", *GRADIENT),
}
ALL = set(range(10))


@pytest.fixture
def diverge(monkeypatch):
    """``diverge({2: {4, 7}})``: in round 2 the training of clients 4 and 7 ends in that value."""

    def plan(who, value=float("nan")):
        for method in ("train", "gradient"):
            original = getattr(serial.SerialTraining, method)

            def trained(self, *arguments, original=original, **keywords):
                result = original(self, *arguments, **keywords)
                y = result if isinstance(result, torch.Tensor) else result.y
                for row, client in enumerate(self.clients):
                    if client in who.get(self.streams.round, ()):
                        y[row, 3] = self.updates[row, 3] = value
                return result

            monkeypatch.setattr(serial.SerialTraining, method, trained)

    return plan


def cohorts(run):
    table = pd.read_csv(run / "cohorts.csv")
    return {row.round: [int(c) for c in str(row.clients).split()] for row in table.itertuples()}


@pytest.mark.parametrize("chunk", [None, 1, 4])
@pytest.mark.parametrize("method", METHODS)
def test_dropped_clients_leave_what_a_cohort_without_them_gives(run, diverge, monkeypatch, method, chunk):
    overrides = (*DIGITS, *METHODS[method])
    drawn = cohorts(run(*DIGITS))
    who = {2: {drawn[2][1], drawn[2][5]}, 3: set(drawn[3][:1])}
    draw = simulator.cohort
    with monkeypatch.context() as patch:
        patch.setattr(simulator, "cohort", lambda s, t, n, k: [c for c in draw(s, t, n, k) if c not in who.get(t, ())])
        expected = run(*overrides)
    diverge(who)
    if chunk:
        monkeypatch.setattr(executor, "CHUNK_VALUES", chunk * sum(array.size for array in model(expected).values()))
    found = run(*overrides, "on_nan=drop")
    for name, array in model(expected).items():
        np.testing.assert_array_equal(model(found)[name], array)
    ours, theirs = metrics(found), metrics(expected)
    assert list(ours.pop("dropped")) == ["0", "2", "3", "3"]
    own = ["downlink_bits"]  # they did receive the model
    pd.testing.assert_frame_equal(ours.drop(columns=own), theirs.drop(columns=own))
    downlink = ours["downlink_bits"].astype(int)
    assert list(downlink) == [t * downlink[0] for t in (1, 2, 3, 4)]
    assert cohorts(found) == drawn


def test_an_infinite_weight_with_a_finite_sign_is_dropped_too(run, diverge):
    diverge({2: ALL - {0, 1, 2}, 3: set()}, value=float("inf"))
    table = metrics(run(*DIGITS, "algorithm=zsign", "algorithm.z=inf", "on_nan=drop", "cohort=10"))
    assert list(table["dropped"]) == ["0", "7", "7", "7"]


@pytest.mark.parametrize("policy", [[], ["on_nan=stop"]])
@pytest.mark.parametrize("method", METHODS)
def test_by_default_the_run_stops_and_names_the_round_and_the_client(run, diverge, tmp_path, method, policy):
    diverge({3: {5}})
    overrides = (*DIGITS, *METHODS[method], "cohort=10", *policy, f"output={tmp_path / 'mine'}")
    with pytest.raises(FedsignError, match=r"^round 3, client 5: .*NaN or infinite$"):
        run(*overrides)
    assert list(metrics(tmp_path / "mine")["round"]) == ["1", "2"]


def test_where_every_client_is_dropped_the_run_stops(run, diverge, tmp_path):
    diverge({2: ALL})
    with pytest.raises(FedsignError, match=r"^round 2: the updates of all 6 clients are NaN or infinite$"):
        run(*DIGITS, "on_nan=drop", f"output={tmp_path / 'mine'}")
    assert list(metrics(tmp_path / "mine")["round"]) == ["1"]


def test_the_state_of_a_dropped_client_is_left_as_it_was(run, diverge, monkeypatch):
    seen = {}
    read, clients = ClientStates.read, simulator.Simulator._train

    def look(self, t, part, *arguments):
        before = read(self.states, list(range(10)), torch.device("cpu"))["m"]
        seen.setdefault(t, before)
        return clients(self, t, part, *arguments)

    monkeypatch.setattr(simulator.Simulator, "_train", look)
    diverge({2: {4, 8}})
    run(*DIGITS, "algorithm=fedsmu", "cohort=10", "on_nan=drop")
    changed = {t: [c for c in range(10) if not torch.equal(seen[t][c], seen[t + 1][c])] for t in (1, 2, 3)}
    assert changed == {1: list(range(10)), 2: [c for c in range(10) if c not in (4, 8)], 3: list(range(10))}
    assert seen[2][4].abs().sum() > 0


def test_the_count_of_dropped_clients_survives_an_interruption(run, diverge, monkeypatch, tmp_path):
    diverge({1: {4}, 3: {5, 6}})
    overrides = (*DIGITS, "cohort=10", "on_nan=drop", "eval.every=2", f"output={tmp_path / 'mine'}")
    update = RoundProgress.update

    def stop(self, t, row, bits):
        update(self, t, row, bits)
        if t == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, Interrupted)):
        patch.setattr(RoundProgress, "update", stop)
        run(*overrides, "checkpoint.every=1")
    assert list(metrics(run(*overrides))["dropped"]) == ["1", "3"]


def test_without_dropping_there_is_no_column(run):
    assert "dropped" not in metrics(run(*DIGITS, "rounds=1"))
