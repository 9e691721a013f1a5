"""One process, several, and resumed on another number: the same numbers, bit for bit."""

import os
import signal
import subprocess
import sys

import pandas as pd
import pytest
from omegaconf import OmegaConf
from run_files import metrics, model

from fedsign import presets
from fedsign.errors import FedsignError
from fedsign.interrupt import Interrupted
from fedsign.tracking.progress import RoundProgress

METHODS = sorted(path.stem for path in (presets.conf_folder() / "algorithm").glob("*.yaml"))
DIGITS = ("dataset=digits", "model=mlp", "model.hidden=[16]", "clients=9", "cohort=5", "local.epochs=1", "rounds=3")
NORMALISED = ("dataset=mnist5k", "model=lenet5", "model.channels=[4,8]", "clients=80", "rounds=2")
NEEDS = {"fedvote": NORMALISED}  # what a method cannot do without


def problem(method):
    """A small run of a method, with every measurement on and part of the model in the dense tail."""
    keys = OmegaConf.load(presets.conf_folder() / "algorithm" / f"{method}.yaml")
    codes = ("algorithm.codes=weights",) if "codes" in keys and method not in NEEDS else ()
    measured = ("eval.mu_index=true", "eval.train=true", "eval.batch_size=100")
    if method not in NEEDS:
        return (*DIGITS, f"algorithm={method}", *codes, *measured)
    return (*NEEDS[method], "cohort=3", "local.epochs=1", f"algorithm={method}", *measured)


def everything(out):
    """The numbers of a run, as bytes, apart from the seconds."""
    arrays = {name: array.tobytes() for name, array in model(out).items()}
    return metrics(out).to_csv(), (out / "cohorts.csv").read_text(), arrays


@pytest.mark.parametrize("method", METHODS)
def test_the_number_of_workers_changes_no_bit(run, method):
    alone, two, four = (everything(run(*problem(method), f"hardware.workers={n}")) for n in (1, 2, 4))
    assert two == alone
    assert four == alone


def test_images_in_bf16_with_client_state_and_batch_norm(run):
    given = ("dataset=mnist5k", "model=cnn4", "algorithm=fedsmu", "clients=50", "cohort=3", "local.epochs=1")
    given = (*given, "rounds=2", "hardware.precision=bf16", "eval.batch_size=300")
    assert everything(run(*given, "hardware.workers=2")) == everything(run(*given, "hardware.workers=1"))


@pytest.mark.parametrize("workers", [(2, 1), (1, 2), (2, 3)])
def test_a_run_goes_on_with_another_number_of_workers(run, tmp_path, monkeypatch, workers):
    whole = everything(run(*problem("fedsmu"), "rounds=5"))
    update = RoundProgress.update

    def signalled(self, t, row, uplink_bits):
        update(self, t, row, uplink_bits)
        if t == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    before, after = (f"hardware.workers={n}" for n in workers)
    out = f"output={tmp_path / 'mine'}"
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(RoundProgress, "update", signalled)
        run(*problem("fedsmu"), "rounds=5", out, before)
    assert len(pd.read_csv(tmp_path / "mine/metrics.csv")) == 2
    assert everything(run(*problem("fedsmu"), "rounds=5", out, after)) == whole


@pytest.mark.parametrize("workers", [1, 2])
def test_a_client_that_diverges_is_named_or_dropped_alike(run, workers):
    given = (*DIGITS, "algorithm=fedsmu", "local.lr=1e30", f"hardware.workers={workers}")
    with pytest.raises(FedsignError, match=r"^round 1, client \d: .*NaN or infinite"):
        run(*given)
    with pytest.raises(FedsignError, match="round 1: the updates of all 5 clients"):
        run(*given, "on_nan=drop")


def test_ranks_that_torchrun_starts_are_the_same_run(run, tmp_path):
    whole = everything(run(*problem("fedsmu")))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "fedsign"]
    done = subprocess.run(
        [*torchrun, *problem("fedsmu"), f"output={tmp_path / 'mine'}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("FedSMU") == 1  # one process prints
    assert everything(tmp_path / "mine") == whole


def test_a_sweep_under_torchrun_is_refused(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1", "--standalone", "-m", "fedsign"]
    done = subprocess.run([*torchrun, "-m", "seed=0,1"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert "torchrun starts one run" in done.stderr
