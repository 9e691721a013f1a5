"""A run that is killed, whenever it is, goes on to what it would have been."""

import numpy as np
import pytest
from killing import Killer
from run_files import assert_same_run

KILLS = 20
STATEFUL = ("algorithm=fedsmu", "algorithm.bits=32")  # every digit of a client's momentum reaches the model
CONSENSUS = ("dataset=consensus", "model=vector", "cohort=5", "local.epochs=1", "checkpoint.every=1", *STATEFUL)


@pytest.fixture(scope="module")
def killer():
    killer = Killer()
    yield killer
    killer.close()


@pytest.fixture
def config(resolved, tmp_path):
    """``config(*overrides)("name")``: the resolved config of a run in the folder ``tmp_path/name``."""

    def compose(*overrides):
        values = resolved(*overrides)
        return lambda name: values | {"output": str(tmp_path / name)}

    return compose


@pytest.fixture
def large(tmp_path):
    """Writing its checkpoints and states takes a good part of its time: 12 clients in 30 000 dimensions."""
    np.save(tmp_path / "large.npy", np.random.default_rng(0).normal(size=(12, 30_000)))
    return (*CONSENSUS, f"dataset.targets={tmp_path / 'large.npy'}", "rounds=15")


def whole(killer, config):
    """An uninterrupted run: how it ended."""
    outcome = killer.run(config("whole"))
    assert outcome.status == 0, outcome.err
    return outcome


def resumed(killer, config, tmp_path, name):
    """The run goes on, from what is whole, to what it would have been."""
    outcome = killer.run(config(name))
    assert outcome.status == 0, outcome.err
    assert "damaged" not in outcome.err
    assert_same_run(tmp_path / name, tmp_path / "whole")


@pytest.mark.parametrize(("workers", "kills"), [(1, KILLS), (2, KILLS // 2)])
def test_a_run_killed_at_random_moments_loses_nothing(killer, config, large, tmp_path, workers, kills):
    large = config(*large, f"hardware.workers={workers}")
    rng, seconds = np.random.default_rng(1), whole(killer, large).seconds
    for kill in range(kills):
        after, tries = rng.uniform(0, seconds), 0
        while killer.run(large(f"{kill}-{tries}"), after=after).status == 0:  # it was faster this time
            after, tries = after / 2, tries + 1
        resumed(killer, large, tmp_path, f"{kill}-{tries}")


def test_a_run_one_of_whose_workers_is_killed_says_so_at_once_and_loses_nothing(killer, config, large, tmp_path):
    large = config(*large, "hardware.workers=3")
    rng, seconds = np.random.default_rng(2), whole(killer, large).seconds
    killed = 0
    for kill in range(KILLS // 2):
        outcome = killer.run(large(str(kill)), after=rng.uniform(0.2, 1) * seconds, worker=True)
        if outcome.status != 0:  # else it was faster
            killed += 1
            assert "LostRankError: worker" in outcome.err and "by SIGKILL" in outcome.err, outcome.err
            assert outcome.seconds < seconds + 10
            resumed(killer, large, tmp_path, str(kill))
    assert killed > 0


def test_a_run_killed_again_and_again_loses_nothing(killer, config, large, tmp_path):
    large = config(*large)
    third, kills = whole(killer, large).seconds / 3, 0
    while kills < 10 and killer.run(large("mine"), after=third).status != 0:
        kills += 1
    assert kills > 0
    resumed(killer, large, tmp_path, "mine")


@pytest.mark.parametrize(
    ("overrides", "last"), [(["rounds=2"], 1.0), (["rounds=9", "stop.uplink_bits=2000", "eval.every=4"], 0.4)]
)
def test_a_run_killed_at_any_step_on_a_file_loses_nothing(killer, config, targets, tmp_path, overrides, last):
    """In the second, the end of a run that reached a target; the share `last` of all steps is tried."""
    config = config(*CONSENSUS, f"dataset.targets={targets}", *overrides)
    events = whole(killer, config).events
    assert events > 60
    for at in range(int(events * (1 - last)) + 1, events + 1):
        assert killer.run(config(str(at)), at=at).status == -9
        resumed(killer, config, tmp_path, str(at))
