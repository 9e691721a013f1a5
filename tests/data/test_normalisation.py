"""Normalisation: constants per channel, or measured on the training split as a whole."""

import tracemalloc

import numpy as np
import pytest
import torch

from fedsign.config import build
from fedsign.data import tasks
from fedsign.errors import ConfigError

pytestmark = pytest.mark.usefixtures("cache")

CONSTANTS = ((0.2, 0.5, 0.7), (0.3, 0.25, 1.5))
KEYS = ("mean", "std", "test_mean", "test_std")
CHANNELS = {
    "mnist": 1, "fmnist": 1, "emnist": 1, "mnist5k": 1, "digits": 1,
    "cifar10": 3, "cifar100": 3, "svhn": 3, "tinyimagenet": 3,
}  # fmt: skip


@pytest.fixture
def dataset(resolved, nodes, tmp_path):
    def make(choice="npz", **values):
        name = ("dataset.name=mine",) if choice == "npz" else ()
        node = nodes.get(choice) or nodes.setdefault(choice, resolved(f"dataset={choice}", *name)["dataset"])
        return build(node | {"root": str(tmp_path)} | values, "dataset.")

    return make


@pytest.fixture
def images(tmp_path):
    """Images whose channels differ and whose splits differ."""
    rng = np.random.default_rng(0)
    scale = np.array([1.0, 0.5, 0.2])
    content = {
        "x_train": (rng.integers(0, 256, (40, 6, 5, 3)) * scale).astype(np.uint8),
        "y_train": rng.integers(0, 4, 40),
        "x_test": (rng.integers(100, 256, (23, 6, 5, 3)) * scale).astype(np.uint8),
        "y_test": rng.integers(0, 4, 23),
    }
    np.savez(tmp_path / "mine.npz", **content)
    return content


@pytest.fixture
def inputs(dataset, images):
    """``inputs(mean=..., std=...)``: both splits as a model sees them, [N, C, H, W]."""

    def make(**values):
        task = tasks.load(dataset(**values), torch.device("cpu"))
        return task.train_inputs(torch.arange(40)), task.test_inputs(torch.arange(23))

    return make


def by_hand(x, mean, std):
    return ((x / 255 - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)


def close(inputs, images, train, test):
    for x, split, constants in zip(inputs, ("train", "test"), (train, test), strict=True):
        assert x.dtype == torch.float32
        np.testing.assert_allclose(x.numpy(), by_hand(images[f"x_{split}"], *constants), rtol=0, atol=1e-5)


def measured(images):
    pixels = images["x_train"] / 255
    return pixels.mean(), pixels.std()


def test_measured_statistics_are_those_of_all_channels_together(inputs, images):
    close(inputs(mean="train", std="train"), images, measured(images), measured(images))


def test_measured_statistics_normalise_the_training_split(inputs):
    train, test = inputs(mean="train", std="train")
    assert abs(train.mean()) < 1e-5
    assert abs(train.std(correction=0) - 1) < 1e-5
    assert abs(train[:, 0].mean()) > 0.3  # a channel of its own is not
    assert abs(test.mean()) > 0.3  # nor is the other split


@pytest.mark.parametrize("constant", ["mean", "std"])
def test_one_may_be_measured_and_the_other_given(inputs, images, constant):
    values = {"mean": "train", "std": "train"} | {constant: [0.4, 0.5, 0.6]}
    mean, std = measured(images)
    expected = ((0.4, 0.5, 0.6), std) if constant == "mean" else (mean, (0.4, 0.5, 0.6))
    close(inputs(**values), images, expected, expected)


def test_null_leaves_pixels_in_the_unit_interval(inputs, images):
    train, test = inputs(mean=None, std=None)
    close((train, test), images, (0, 1), (0, 1))
    assert train.min() >= 0
    assert train.max() <= 1


@pytest.mark.parametrize(("mean", "std"), [(CONSTANTS[0], None), (None, CONSTANTS[1]), CONSTANTS])
def test_constants_are_per_channel_and_null_does_nothing(inputs, images, mean, std):
    expected = (mean or 0, std or 1)
    close(inputs(mean=mean, std=std), images, expected, expected)


@pytest.mark.parametrize("given", [("test_mean",), ("test_std",), ("test_mean", "test_std")], ids="+".join)
@pytest.mark.parametrize("train", ["constants", "measured", "null"])
def test_statistics_of_the_test_split_concern_it_alone(inputs, images, given, train):
    chosen = {"constants": CONSTANTS, "measured": ("train", "train"), "null": (None, None)}[train]
    trained = {"constants": CONSTANTS, "measured": measured(images), "null": (0, 1)}[train]
    own = {"test_mean": (0.0, 0.6, 0.3), "test_std": (2.0, 0.5, 0.1)}
    tested = [own[key] if key in given else value for key, value in zip(own, trained, strict=True)]
    values = {"mean": chosen[0], "std": chosen[1]} | {key: own[key] for key in given}
    close(inputs(**values), images, trained, tested)


def test_measuring_takes_no_more_memory_than_the_images(dataset):
    x = np.random.default_rng(0).integers(0, 256, (1500, 32, 32, 3), dtype=np.uint8)
    options = dataset("cifar10", mean="train", std="train")
    tracemalloc.start()
    mean, std = (tasks._statistics(options, key, x) for key in ("mean", "std"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mean == (pytest.approx((x / 255).mean(), rel=1e-9),) * 3
    assert std == (pytest.approx((x / 255).std(), rel=1e-9),) * 3
    assert peak < x.nbytes


@pytest.mark.parametrize("choice", CHANNELS)
def test_constants_of_the_config_pass_its_own_check(dataset, choice):
    options = dataset(choice)
    options.check()
    assert options.dimensions()[0][0] == CHANNELS[choice]


@pytest.mark.parametrize("choice", CHANNELS)
@pytest.mark.parametrize("key", KEYS)
def test_constants_need_one_number_per_channel(dataset, choice, key):
    with pytest.raises(ConfigError, match=rf"^dataset\.{key}=.*one number per channel, {CHANNELS[choice]}$"):
        dataset(choice, **{key: [0.5, 0.5]}).check()


@pytest.mark.parametrize("key", KEYS)
def test_empty_list_of_constants_is_not_null(dataset, key):
    with pytest.raises(ConfigError, match=rf"^dataset\.{key}=\[\]: .*one number per channel, 1$"):
        dataset("mnist", **{key: []}).check()


@pytest.mark.parametrize("key", ["std", "test_std"])
@pytest.mark.parametrize("number", [0.0, -0.5])
def test_deviations_must_be_positive(dataset, key, number):
    with pytest.raises(ConfigError, match=rf"^dataset\.{key}=.*must be > 0$"):
        dataset("svhn", **{key: [0.2, number, 0.2]}).check()


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_constants_must_be_finite(dataset, key, number):
    with pytest.raises(ConfigError, match=rf"^dataset\.{key}="):
        dataset("svhn", **{key: [0.2, number, 0.2]}).check()


@pytest.mark.parametrize("key", KEYS)
def test_other_words_are_refused_saying_what_is_allowed(dataset, key):
    with pytest.raises(ConfigError, match=rf"^dataset\.{key}=whole: must be a list, each a .*number") as error:
        dataset("svhn", **{key: "whole"})
    assert ("train" in str(error.value)) == (key in ("mean", "std"))


def test_test_split_is_not_measured(dataset):
    with pytest.raises(ConfigError, match=r"^dataset\.test_mean=train"):
        dataset("svhn", test_mean="train")


def test_svhn_normalises_the_test_split_by_its_own_constants(dataset, tmp_path):
    x = np.full((2, 32, 32, 3), 114, dtype=np.uint8)
    np.savez(tmp_path / "svhn.npz", x_train=x, y_train=np.arange(2), x_test=x, y_test=np.arange(2))
    task = tasks.load(dataset("svhn"), torch.device("cpu"))
    train, test = task.train_inputs(torch.arange(2)), task.test_inputs(torch.arange(2))
    assert train.numpy() == pytest.approx((114 / 255 - 0.4496) / 0.1995, abs=1e-5)
    assert test.numpy() == pytest.approx((114 / 255 - 0.4560) / 0.2244, abs=1e-5)


def test_constants_that_fmnists_config_names_for_the_test_split_are_taken(dataset):
    options = dataset("fmnist", test_mean=[0.2868], test_std=[0.3524])
    options.check()
    assert (options.test_mean, options.test_std) == ((0.2868,), (0.3524,))
