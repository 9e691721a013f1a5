"""The code in the documentation runs as printed."""

import re
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
import torch

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, receive, send
from fedsign.local.optimizers import Adam
from fedsign.options import Positive, options

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), flags=re.S)


def options_and_codecs():
    """What the printed files import."""
    names = (options, Algorithm, send, receive, Adam)
    return {n.__name__: n for n in names} | {
        "codecs": codecs,
        "torch": torch,
        "Positive": Positive,
    }


@pytest.fixture
def methods(monkeypatch):
    """The methods of the architecture page, importable by name."""
    module = type(sys)("printed_methods")
    module.__dict__.update(typing.__dict__ | options_and_codecs())
    monkeypatch.setitem(sys.modules, "printed_methods", module)
    for block in blocks("architecture.md", "python"):
        exec(block, module.__dict__)
    return module


@pytest.fixture
def printed_run(methods, run, resolved, targets, monkeypatch):
    """Run a printed method on the consensus problem; the final x."""
    from fedsign import job

    def go(name, rounds, clients, output, **keys):
        config = resolved(
            "dataset=consensus", "model=vector", f"dataset.targets={targets}", f"rounds={rounds}", f"cohort={clients}",
            "local.epochs=null", "local.steps=5", f"output={output}",
        )  # fmt: skip
        config["algorithm"] = {"_target_": f"printed_methods.{name}", "name": name.lower(), "codes": "all"} | keys
        job.run(config)
        return np.load(output / "model.npz")["x"]

    return go


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("Scaffold", {"server_lr": 1.0}),
        ("FedVote", {"a": 1.5, "p_min": 0.001}),
        ("FedMRN", {"noise_scale": 0.3}),
    ],
)
def test_printed_method_approaches_the_optimum(printed_run, targets, tmp_path, name, keys):
    rng = np.random.default_rng(0)
    y = 0.9 * rng.choice([-1, 1], size=40) + 0.02 * rng.normal(size=(12, 40))  # FedVote drives weights to ±1
    np.save(targets, y)
    x = printed_run(name, 60, 12, tmp_path / "out", **keys)
    assert np.linalg.norm(x - y.mean(axis=0)) < 0.3 * np.linalg.norm(y.mean(axis=0))


def test_what_is_quoted_of_a_shipped_method_is_what_it_runs():
    (quoted,) = blocks("architecture.md", "py")
    assert quoted in Path(codecs.__file__).parents[1].joinpath("algorithms/fedlion.py").read_text()


def test_printed_scaffold_has_the_fixed_point_of_scaffold(printed_run, targets, tmp_path):
    """With full participation the mean of the local optima is reached exactly, drift or not."""
    x = printed_run("Scaffold", 60, 12, tmp_path / "out", server_lr=1.0)
    np.testing.assert_allclose(x, np.load(targets).mean(axis=0), atol=1e-4)


def test_worked_example_runs_from_its_own_folder(tmp_path):
    (source,) = blocks("add_an_algorithm.md", "python")
    (config,) = blocks("add_an_algorithm.md", "yaml")
    (tmp_path / "scaled_sign.py").write_text(source)
    (tmp_path / "conf" / "algorithm").mkdir(parents=True)
    (tmp_path / "conf" / "algorithm" / "scaled_sign.yaml").write_text(config)
    command = [sys.executable, "-m", "fedsign", "--config-dir", "conf", "algorithm=scaled_sign", "dataset=digits"]
    arguments = ["model=mlp", "clients=10", "partition=iid", "rounds=5", "output=out"]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "scaled sign" in done.stdout
    accuracy = float((tmp_path / "out" / "metrics.csv").read_text().splitlines()[-1].split(",")[4])
    assert accuracy > 0.5
