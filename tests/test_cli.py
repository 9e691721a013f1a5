"""The command line: mistakes in one line each, runs made again, and sweeps."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from run_files import assert_same, metrics

from fedsign import cli, presets
from fedsign.config import fingerprint
from fedsign.simulator import Simulator

# Answers each command line in a fork of one interpreter that has not imported torch.
FORKS = """
import json, os, sys, tempfile
import fedsign.algorithms.fedavg, fedsign.data.bundled, fedsign.federation.partition, fedsign.models.lenet
from fedsign import cli

def answer(arguments):
    out, err, torch = (tempfile.TemporaryFile() for _ in range(3))
    if (child := os.fork()) == 0:
        os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)
        sys.argv, status = ["fedsign", *arguments], 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
            status = 1
        sys.stdout.flush(), sys.stderr.flush()
        os.write(torch.fileno(), str("torch" in sys.modules).encode())
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for file in (out, err, torch):
        file.seek(0)
    return status, *(file.read().decode() for file in (out, err, torch))

json.dump([answer(arguments.split()) for arguments in json.load(sys.stdin)], sys.stdout)
"""
NPZ = "dataset=npz clients=2 cohort=1 dataset.root=."
CONSENSUS = "dataset=consensus model=vector"
MISTAKES = {
    "rouds=3": ["rouds", "'rounds'", "cohort"],
    "algorithm=fedsmu algorithm.gama_1=1": ["algorithm.gama_1", "'algorithm.gamma_1'", "algorithm.sign_zero"],
    "dataset.rot=x": ["dataset.rot", "'dataset.root'", "dataset.augment"],
    "local.epoch=3": ["local.epoch", "'local.epochs'", "local.steps"],
    "algorithm=fedsm": ["algorithm=fedsm", "'fedsmu'", "fedavg", "zsign"],
    "dataset=mnst5k": ["dataset=mnst5k", "'mnist5k'", "digits"],
    "+experiment=quickstrt": ["experiment=quickstrt", "'quickstart'"],
    "rounds=abc": ["rounds=abc", "an integer >= 1"],
    "rounds=0": ["rounds=0", "an integer >= 1"],
    "on_nan=skip": ["on_nan=skip", "stop, drop"],
    "seed=-1": ["seed=-1", "an integer >= 0"],
    "seed=99999999999999999999": ["seed=99999999999999999999", "an integer"],
    "local.lr=true": ["local.lr=true", "a number > 0"],
    "local.lr=-1": ["local.lr=-1", "a number > 0"],
    "local.lr=0": ["local.lr=0", "a number > 0"],
    "local.momentum=1": ["local.momentum=1", "[0, 1)"],
    "local.optimizer=adm": ["local.optimizer=adm", "sgd, adam, lion", "'adam'"],
    "dataset.augment=1": ["dataset.augment=1", "true or false"],
    "cohort=11 clients=10": ["cohort=11", "clients=10"],
    "local.steps=3": ["local.epochs=5", "local.steps=3", "exactly one"],
    "local.epochs=null": ["local.epochs=null", "local.steps=null", "exactly one"],
    "partition.alpha=0": ["partition.alpha=0", "a number > 0"],
    "algorithm=zsign algorithm.z=-1": ["algorithm.z=-1", "a number > 0, or inf"],
    "algorithm=fedsmu algorithm.bits=2": ["algorithm.bits=2", "1, 3, 8, 32"],
    "algorithm=null": ["algorithm", "fedavg"],
    "clients=4001": ["clients=4001", "clients=4000"],
    "hardware.device=cuda": ["hardware.device=cuda", "CUDA", "hardware.device=cpu"],
    "hardware.device=gpu": ["hardware.device=gpu", "cpu, cuda or cuda:N"],
    "hardware=gpu": ["hardware=gpu", "cpu, cuda"],
    "hardware.workers=0": ["hardware.workers=0", "an integer >= 1 or auto"],
    "hardware.precision=tf32": ["hardware.precision=tf32", "f32 or bf16"],
    "model=vector": ["model=vector", "vector", "dataset=mnist5k", "image"],
    "dataset=digits model=lenet": ["model=lenet", "16x16", "dataset=digits", "8x8"],
    "dataset=consensus dataset.targets=targets.npy cohort=1": ["model=lenet_small", "dataset=consensus"],
    "dataset=npz": ["dataset.name"],
    f"{NPZ} dataset.name=absent": ["dataset.name=absent", "absent.npz", "x_train", "uint8"],
    f"{NPZ} dataset.name=text": ["text.npz", "npz file"],
    f"{NPZ} dataset.name=partial": ["partial.npz", "y_train", "x_test", "y_test"],
    f"{NPZ} dataset.name=floats": ["floats.npz", "x_train", "float64", "uint8"],
    f"{NPZ} dataset.name=short": ["short.npz", "y_train", "integers [10]"],
    CONSENSUS: ["dataset.targets=null", "[clients, d]"],
    f"{CONSENSUS} dataset.targets=absent.npy": ["dataset.targets=absent.npy", "npy file"],
    f"{CONSENSUS} dataset.targets=text.npz": ["dataset.targets=text.npz", "npy file"],
    f"{CONSENSUS} dataset.targets=flat.npy": ["dataset.targets=flat.npy", "[clients, d]"],
    f"{CONSENSUS} dataset.targets=targets.npy cohort=4": ["cohort=4", "clients=3"],
    "rounds=1,2": ["rounds=1,2", "-m"],
    "algorithm=fedavg,fedsmu": ["algorithm=fedavg,fedsmu", "-m"],
    "output=other": ["output", "other", "seed", "different config"],
    "output=text.npz": ["output", "text.npz"],
    "output=text.npz/below": ["output", "text.npz/below"],
    "rounds": ["rounds", "="],
    "rounds=[1": ["rounds=[1"],
    "+rounds=3": ["rounds"],
    "~nothing": ["nothing"],
    "scale=smoke": ["scale", "+experiment=", "+scale=smoke"],
    "fidelity=text": ["fidelity", "+fidelity=text"],
    "+fidelity=txt": ["fidelity=txt", "published, text", "'text'"],
    "+setting=signsgd_sim/cifar10_central +method=signsgd_sim/signsgd_sim local.batch_size=16": [
        "error: local.batch_size=16",
        "128, 32, 8",
    ],
    "tracking=wndb": ["tracking=wndb", "'wandb'", "csv"],
}
SMALL = ["dataset=digits", "model=mlp", "model.hidden=[16]", "rounds=3", "clients=10", "cohort=4", "local.epochs=1"]


def composed(*overrides):
    cli.register_resolvers()
    with initialize_config_dir(str(presets.conf_folder()), version_base="1.3"):
        return OmegaConf.to_container(compose("config", list(overrides)), resolve=True)


@pytest.mark.parametrize("choice", ["scale=full", "scale=small", "+fidelity=text"])
def test_the_folder_of_a_run_has_the_hash_of_what_it_computes(choice):
    config = composed("+experiment=fedsmu/table9", choice)
    assert config["output"].endswith("-" + fingerprint(config)[:8])


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    np.save(folder / "targets.npy", np.ones((3, 4)))
    np.save(folder / "flat.npy", np.ones(3))
    (folder / "text.npz").write_text("no archive")
    pixels, labels = np.zeros((10, 28, 28), np.uint8), np.zeros(10, int)
    np.savez(folder / "partial.npz", x_train=pixels)
    np.savez(folder / "floats.npz", x_train=pixels / 2, y_train=labels, x_test=pixels / 2, y_test=labels)
    np.savez(folder / "short.npz", x_train=pixels, y_train=labels[:9], x_test=pixels, y_test=labels)
    (folder / "other").mkdir()
    (folder / "other/config.yaml").write_text(yaml.safe_dump(composed("seed=7")))
    done = subprocess.run(
        [sys.executable, "-c", FORKS], input=json.dumps(list(MISTAKES)), capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(MISTAKES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(("arguments", "words"), MISTAKES.items())
def test_a_mistake_is_one_line_that_names_it_and_what_is_allowed(answers, arguments, words):
    status, out, err, _ = answers[arguments]
    assert (status, out) == (2, "")
    assert err.startswith("fedsign: error: ") and err.count("\n") == 1
    assert [word for word in words if word not in err] == []
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_is_told_before_torch_is_loaded(answers, arguments):
    assert answers[arguments][3] == "False"


def shell(*arguments, cwd, **environment):
    command = [sys.executable, "-m", "fedsign", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | environment)


@pytest.mark.parametrize("mistake", [["local.lr=-1"], ["rouds=3"], ["-m", "rouds=1,2"], ["dataset=npz"]])
def test_a_mistake_in_a_shell_ends_with_status_2(tmp_path, mistake):
    done = shell(*mistake, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fedsign: error: ") and done.stderr.count("\n") == 1


def test_the_traceback_is_shown_for_debugging(tmp_path):
    done = shell("local.lr=-1", cwd=tmp_path, FEDSIGN_DEBUG="1")
    assert done.returncode != 0
    assert "Traceback" in done.stderr and "ConfigError: local.lr=-1" in done.stderr


def content(run):
    return {path.relative_to(run): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def test_help_shows_the_groups_and_examples(fedsign):
    status, out, err = fedsign("--help")
    assert (status, err) == (0, "")
    groups = ("algorithm", "dataset", "partition", "model", "hardware", "attack", "tracking", "experiment")
    assert [group for group in groups if f"\n{group}: " not in out] == []
    assert "fedsmu" in out and "mnist5k" in out and "quickstart" in out
    assert "-m algorithm=" in out and "dry_run=true" in out


@pytest.mark.parametrize(
    "mistake", [["local.lr=-1"], ["cohort=101"], ["dataset=npz", "dataset.name=absent", "dataset.root=."]]
)
def test_a_run_that_never_began_leaves_no_folder(fedsign, tmp_path, mistake):
    assert fedsign(*mistake, "output=mine")[0] == 2
    assert not (tmp_path / "mine").exists()


def test_a_refused_folder_keeps_what_it_held(fedsign, tmp_path):
    assert fedsign(*SMALL, "output=mine")[0] == 0
    before = content(tmp_path / "mine")
    assert fedsign(*SMALL, "seed=1", "output=mine")[0] == 2
    assert content(tmp_path / "mine") == before


def test_a_run_ends_with_its_table_and_plot(fedsign, tmp_path):
    status, out, err = fedsign(*SMALL, "output=mine")
    assert status == 0
    assert "FedAvg" in out and "mine/accuracy_vs_uplink.png" in out
    assert "round 3/3" in err
    assert (tmp_path / "mine/accuracy_vs_uplink.png").read_bytes().startswith(b"\x89PNG")


def test_runs_that_differ_have_different_folders_by_default(fedsign, tmp_path):
    for override in ("seed=0", "seed=1", "local.lr=0.05", "model.hidden=[8]"):
        assert fedsign(*SMALL, override)[0] == 0
    assert len(list((tmp_path / "outputs/runs").iterdir())) == 4


@pytest.mark.parametrize("flags", [["--config-dir", "first", "--config-name", "config"], ["--config-dir=first"]])
def test_a_config_written_by_a_run_runs_again_with_the_same_numbers(fedsign, tmp_path, flags):
    first, again = tmp_path / "first", tmp_path / "again"
    assert fedsign("algorithm=fedsmu", *SMALL, "output=first")[0] == 0
    status, _, err = fedsign(*flags, "output=again")
    assert status == 0, err
    assert_same(again, first)


def test_a_config_written_by_a_run_takes_other_values(fedsign, tmp_path):
    assert fedsign(*SMALL, "output=first")[0] == 0
    assert fedsign("--config-dir", "first", "--config-name", "config", "output=again", "rounds=2")[0] == 0
    pd.testing.assert_frame_equal(metrics(tmp_path / "again"), metrics(tmp_path / "first")[:2])


def test_the_same_command_again_changes_nothing(fedsign, tmp_path):
    assert fedsign(*SMALL, "output=mine")[0] == 0
    files = {name: data for name, data in content(tmp_path / "mine").items() if name.suffix != ".png"}
    status, out, err = fedsign(*SMALL, "output=mine")
    assert (status, err) == (0, "")
    assert "finished" in out
    assert files.items() <= content(tmp_path / "mine").items()


def test_resume_never_starts_over(fedsign, tmp_path):
    assert fedsign(*SMALL, "output=mine")[0] == 0
    before = metrics(tmp_path / "mine")
    (tmp_path / "mine/metrics.csv").unlink()
    status, out, _ = fedsign(*SMALL, "output=mine", "resume=never")
    assert status == 0 and "finished already" not in out
    pd.testing.assert_frame_equal(metrics(tmp_path / "mine"), before)


def records(folder):
    sweep = max((folder / "outputs/sweeps").iterdir())
    return sweep, [json.loads(path.read_text()) for path in sorted((sweep / "jobs").glob("*.json"))]


def test_a_sweep_leaves_its_runs_a_table_and_a_plot(fedsign, tmp_path):
    status, out, _ = fedsign("-m", "algorithm=fedavg,fedsmu", *SMALL)
    sweep, jobs = records(tmp_path)
    assert status == 0
    assert [job["status"] for job in jobs] == ["finished", "finished"]
    assert [job["overrides"][0] for job in jobs] == ["algorithm=fedavg", "algorithm=fedsmu"]
    runs = sorted((tmp_path / "outputs/runs").iterdir())
    assert sorted(job["output"] for job in jobs) == [str(run) for run in runs]
    assert all((run / "model.npz").exists() for run in runs)
    assert list(pd.read_csv(sweep / "comparison.csv")["method"]) == ["FedAvg", "FedSMU"]
    assert (sweep / "accuracy_vs_uplink.png").read_bytes().startswith(b"\x89PNG")
    assert "FedAvg" in out and "FedSMU" in out and str(sweep.name) in out


def test_a_wrong_job_of_a_sweep_does_not_stop_the_others(fedsign, tmp_path):
    status, out, err = fedsign("-m", "local.lr=-1,0.1", *SMALL)
    sweep, jobs = records(tmp_path)
    assert status == 2
    assert [job["status"] for job in jobs] == ["failed", "finished"]
    assert "local.lr=-1" in jobs[0]["error"]
    assert err.splitlines()[-1].startswith("failed: local.lr=-1")
    assert "FedAvg" in out and (sweep / "comparison.csv").exists()


def test_what_is_wrong_with_every_job_of_a_sweep_is_said_once_at_its_end(fedsign):
    status, _, err = fedsign("-m", "seed=0,1", "local.lr=-1", *SMALL)
    assert status == 2
    last = [line for line in err.splitlines() if line.startswith("failed:")]
    assert len(last) == 1 and last[0].startswith("failed: all 2 jobs: local.lr=-1")


def test_a_sweep_started_again_skips_what_is_finished(fedsign, tmp_path):
    fedsign("-m", "local.lr=-1,0.1", *SMALL)
    run = next((tmp_path / "outputs/runs").glob("local.lr=0.1*"))
    before = content(run)
    status, out, err = fedsign("-m", "local.lr=-1,0.1", *SMALL)
    assert status == 2
    assert "finished already" in out and "round 3/3" not in err
    assert content(run) == before


def test_a_crash_of_a_job_is_kept_in_its_folder_and_ends_with_status_1(fedsign, tmp_path, monkeypatch):
    rounds = Simulator._round

    def crash(self, t, clients):
        if self.algorithm.name == "fedsmu":
            raise RuntimeError("out of luck")
        return rounds(self, t, clients)

    monkeypatch.setattr(Simulator, "_round", crash)
    status, _, err = fedsign("-m", "algorithm=fedsmu,fedavg", *SMALL)
    _, jobs = records(tmp_path)
    assert status == 1
    assert [job["status"] for job in jobs] == ["failed", "finished"]
    assert "RuntimeError: out of luck" in next(tmp_path.rglob("error.txt")).read_text()
    assert "failed: algorithm=fedsmu" in err and "Traceback" not in err
