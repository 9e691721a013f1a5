"""``dataset.synthetic`` and drawn targets: every dataset without its files."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from fedsign.config import Config
from fedsign.data import tasks
from fedsign.data.shakespeare import ALPHABET, WINDOW
from fedsign.errors import ConfigError
from fedsign.execution import setup
from fedsign.presets import conf_folder

CPU = torch.device("cpu")
SAMPLED = sorted({path.stem for path in (conf_folder() / "dataset").glob("*.yaml")} - {"consensus"})
MODELS = {"shakespeare": "model=char_lstm", "npz": "model=mlp"}
NEEDS = {"npz": ("dataset.name=mine", "dataset.shape=[3,9,7]", "dataset.classes=6")}
SMALL = ("clients=10", "cohort=2", "local.epochs=1", "rounds=1")
CONSENSUS = ("dataset=consensus", "model=vector", "dataset.dimension=7", "clients=5", "cohort=2", "local.epochs=1")


def given(choice, samples=200):
    """The overrides for random samples of a dataset, whose folder has nothing."""
    model = MODELS.get(choice, "model=mlp")
    return (f"dataset={choice}", f"dataset.synthetic={samples}", "dataset.root=nowhere", model, *NEEDS.get(choice, ()))


@pytest.fixture
def task(resolved):
    """``task("mnist")``: its task, with 200 random samples."""

    def go(choice, *overrides):
        return tasks.load(Config(resolved(*given(choice), *SMALL, *overrides)).dataset, CPU)

    return go


@pytest.mark.parametrize("choice", SAMPLED)
def test_every_dataset_trains_without_its_files(run, choice):
    folder = run(*given(choice), *SMALL)
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
    assert pd.read_csv(folder / "metrics.csv")["test_accuracy"].between(0, 1).all()


@pytest.mark.parametrize("choice", sorted({*SAMPLED} - {"shakespeare", "npz"}))
def test_images_are_as_the_config_says(resolved, task, choice):
    node = resolved(*given(choice), *SMALL)["dataset"]
    found = task(choice)
    inputs, labels = found.batch(torch.arange(200), np.random.default_rng(0))
    assert tuple(inputs.shape[1:]) == tuple(node["shape"]) == found.shape
    assert (len(found.labels), len(found.y_test)) == (200, 20)
    assert labels.min() >= 0 and labels.max() < node["classes"] == found.classes


def test_an_npz_of_the_same_name_is_not_read(run, tmp_path):
    (tmp_path / "mnist.npz").write_text("no archive")
    run("dataset=mnist", "dataset.synthetic=200", f"dataset.root={tmp_path}", "model=mlp", *SMALL)


def test_classes_are_balanced(task):
    counts = np.bincount(np.concatenate([task("mnist").labels, task("mnist").y_test]), minlength=10)
    assert counts.tolist() == [22] * 10


def test_texts_are_windows_of_the_alphabet(task):
    found = task("shakespeare")
    inputs, targets = found.batch(torch.arange(200), np.random.default_rng(0))
    assert inputs.shape == (200, WINDOW) and len(found.y_test) == 20
    assert inputs.min() >= 0 and inputs.max() < len(ALPHABET) and targets.max() < len(ALPHABET)
    assert torch.equal(inputs[1:, -1], targets[:-1])  # a window goes on with its target


@pytest.mark.parametrize("choice", ["emnist", "shakespeare", "mnist"])
def test_a_natural_partition_has_owners_of_twenty(run, choice):
    folder = run(*given(choice), *SMALL, "partition=natural", "dry_run=true")
    assert json.loads((folder / "summary.json").read_text())["client_sizes"] == [20] * 10


@pytest.mark.parametrize("choice", ["mnist", "shakespeare"])
def test_the_samples_are_always_the_same(task, choice):
    one, other = (task(choice).batch(torch.arange(20), np.random.default_rng(0)) for _ in range(2))
    assert all(map(torch.equal, one, other))


def test_more_clients_than_samples_are_refused(resolved):
    with pytest.raises(ConfigError, match=r"clients=10.*at most clients=9$"):
        Config(resolved(*given("mnist", 9), *SMALL))


def test_drawn_targets_are_standard_normal_one_per_client(resolved):
    config = Config(resolved(*CONSENSUS[:2], "dataset.dimension=4000", "clients=20", "cohort=2"))
    targets = config.dataset.load()
    assert (config.clients, targets.shape, targets.dtype) == (20, (20, 4000), np.float32)
    assert abs(targets.mean()) < 0.02 and abs(targets.std() - 1) < 0.02
    assert np.abs(np.corrcoef(targets) - np.eye(20)).max() < 0.1


def test_targets_follow_the_seed_or_their_own(resolved):
    def load(*overrides):
        return Config(resolved(*CONSENSUS, *overrides)).dataset.load()

    assert np.array_equal(load(), load())
    assert not np.array_equal(load(), load("seed=1"))
    assert np.array_equal(load("dataset.draw=0"), load("dataset.draw=0", "seed=1"))


def test_a_run_reaches_the_mean_of_its_drawn_targets(run, resolved):
    overrides = (*CONSENSUS, "cohort=5", "rounds=30", "local.lr=0.5")
    folder = run(*overrides)
    built = setup.build(Config(resolved(*overrides)))
    with np.load(folder / "model.npz") as file:
        np.testing.assert_allclose(file["x"], built.task.targets.mean(dim=0), atol=1e-5)
    assert pd.read_csv(folder / "metrics.csv")["distance"].iloc[-1] < 1e-5


def test_a_file_and_a_dimension_exclude_each_other(resolved, targets):
    with pytest.raises(ConfigError, match=r"dataset.targets=.* dataset.dimension=7: exactly one"):
        Config(resolved(*CONSENSUS, f"dataset.targets={targets}"))


@pytest.mark.parametrize("wrong", ["0", "-1", "a"])
def test_a_dimension_is_a_number_of_coordinates(resolved, wrong):
    with pytest.raises(ConfigError, match=rf"^dataset.dimension={wrong}: must be an integer >= 1"):
        Config(resolved(*CONSENSUS, f"dataset.dimension={wrong}"))
