"""Image datasets from npz files: precedence, shapes from the header, and one clear line for every malformed file."""

import io

import numpy as np
import pytest
import torch
import yaml

from fedsign.config import build
from fedsign.data import tasks
from fedsign.errors import ConfigError, DataError
from fedsign.presets import conf_folder

CPU = torch.device("cpu")


def arrays(n_train=30, n_test=12, size=(6, 5), classes=10):
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (n_train, *size), dtype=np.uint8),
        "y_train": np.arange(n_train) % classes,
        "x_test": rng.integers(0, 256, (n_test, *size), dtype=np.uint8),
        "y_test": np.arange(n_test) % classes,
    }


@pytest.fixture
def npz(tmp_path):
    """``npz(**changes)``: the file mine.npz with some of its arrays replaced; None leaves one out."""

    def write(name="mine", compressed=False, **changes):
        content = {k: v for k, v in (arrays() | changes).items() if v is not None}
        path = tmp_path / f"{name}.npz"
        (np.savez_compressed if compressed else np.savez)(path, **content)
        return path

    return write


@pytest.fixture
def dataset(tmp_path):
    """``dataset("npz", classes=10)``: the options object of a yaml, with its root in the test's folder."""

    def make(choice="npz", **values):
        node = yaml.safe_load((conf_folder() / "dataset" / f"{choice}.yaml").read_text())
        name = {"name": "mine"} if choice == "npz" else {}
        return build(node | {"root": str(tmp_path)} | name | values, "dataset.")

    return make


def test_file_is_read_as_it_was_written(npz, dataset):
    npz()
    loaded, written = dataset().load(), arrays()
    assert np.array_equal(loaded.x_train[..., 0], written["x_train"])
    assert np.array_equal(loaded.x_test[..., 0], written["x_test"])
    assert np.array_equal(loaded.y_train, written["y_train"])
    assert np.array_equal(loaded.y_test, written["y_test"])
    assert loaded.y_train.dtype == np.int64


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("size", "shape"), [((6, 5), (1, 6, 5)), ((6, 5, 1), (1, 6, 5)), ((6, 5, 3), (3, 6, 5))])
def test_images_with_and_without_a_channel_axis_are_taken(npz, dataset, size, shape, compressed):
    npz(compressed=compressed, **arrays(size=size))
    assert dataset().dimensions() == (shape, 10)
    assert dataset().load().x_test.shape == (12, 6, 5, shape[0])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_labels_of_any_integer_type_are_taken(npz, dataset, dtype):
    npz(y_train=arrays()["y_train"].astype(dtype))
    assert dataset().load().y_train.dtype == np.int64


@pytest.mark.parametrize("choice", ["mnist5k", "digits", "cifar10"])
def test_file_is_taken_before_the_source_of_the_dataset(npz, dataset, choice):
    shape = dataset(choice).shape
    content = arrays(size=(*shape[1:], shape[0]))
    npz(name=choice, **content)
    found = dataset(choice)
    assert found.is_here()
    assert found.dimensions() == (shape, 10)
    assert found.training_samples() == 30
    assert np.array_equal(found.load().x_train, content["x_train"])


def test_file_whose_images_differ_from_the_config_is_refused(npz, dataset):
    path = npz(name="mnist5k")
    with pytest.raises(DataError, match=r"\(1, 6, 5\).*\(1, 28, 28\)") as error:
        dataset("mnist5k").check()
    assert str(path) in str(error.value)


def test_root_is_taken_from_the_environment_where_the_config_has_none(npz, dataset, monkeypatch, tmp_path):
    npz()
    monkeypatch.setenv("FEDSIGN_DATA", str(tmp_path))
    assert dataset(root=None).is_here()
    monkeypatch.setenv("FEDSIGN_DATA", str(tmp_path / "elsewhere"))
    assert not dataset(root=None).is_here()


def test_shape_is_read_from_the_header_alone(npz, dataset):
    path = npz(x_train=np.full((30, 60, 50), 171, dtype=np.uint8), x_test=np.zeros((12, 60, 50), dtype=np.uint8))
    content = path.read_bytes()
    path.write_bytes(content.replace(bytes([171] * 50_000), bytes([172] * 50_000)))
    assert dataset(classes=10).dimensions() == ((1, 60, 50), 10)
    assert dataset().training_samples() == 30
    with pytest.raises(DataError, match=r"mine\.npz"):
        dataset().load()


def test_classes_are_counted_in_both_splits(npz, dataset):
    npz(y_test=np.full(12, 16))
    assert dataset().dimensions()[1] == 17
    assert dataset(classes=20).dimensions()[1] == 20


MALFORMED = {
    "no_training_images": {"x_train": None},
    "no_test_labels": {"y_test": None},
    "float_images": {"x_train": np.zeros((30, 6, 5), dtype=np.float32)},
    "signed_images": {"x_test": np.zeros((12, 6, 5), dtype=np.int64)},
    "flat_images": {"x_train": np.zeros((30, 30), dtype=np.uint8)},
    "pickled_images": {"x_train": np.array([None] * 30)},
    "float_labels": {"y_train": np.zeros(30)},
    "text_labels": {"y_test": np.array(["cat"] * 12)},
    "one_hot_labels": {"y_train": np.zeros((30, 10), dtype=np.int64)},
    "too_few_labels": {"y_train": np.zeros(29, dtype=np.int64)},
    "one_label_for_all": {"y_test": np.array(3)},
    "negative_labels": {"y_train": np.arange(30) - 1},
    "other_test_size": {"x_test": np.zeros((12, 6, 6), dtype=np.uint8)},
    "other_test_channels": {"x_test": np.zeros((12, 6, 5, 3), dtype=np.uint8)},
}


@pytest.mark.parametrize("checked_first", [False, True])
@pytest.mark.parametrize("changes", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_arrays_are_refused_naming_the_file(npz, dataset, changes, checked_first):
    path = npz(**changes)
    with pytest.raises(DataError) as error:
        if checked_first:
            dataset().check()
        dataset().load()
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["y_train", "y_test"])
def test_label_beyond_the_classes_is_refused_naming_the_file(npz, dataset, key):
    path = npz(**{key: np.full(len(arrays()[key]), 10)})
    with pytest.raises(DataError) as error:
        tasks.load(dataset(classes=10), CPU)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("call", ["check", "dimensions"])
def test_split_without_samples_is_refused_naming_the_file(npz, dataset, split, call):
    path = npz(**{f"x_{split}": np.zeros((0, 6, 5), dtype=np.uint8), f"y_{split}": np.zeros(0, dtype=np.int64)})
    with pytest.raises(DataError) as error:
        getattr(dataset(), call)()
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", ["truncated", "empty", "text", "npy", "corrupt"])
@pytest.mark.parametrize("call", ["load", "check"])
def test_unreadable_file_is_refused_naming_it(npz, dataset, content, call):
    path = npz(compressed=content == "corrupt")
    whole, single = path.read_bytes(), io.BytesIO()
    np.save(single, arrays()["x_train"])
    broken = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"not an archive",
        "npy": single.getvalue(),
        "corrupt": whole[:300] + b"\xff" * 100 + whole[400:],
    }
    path.write_bytes(broken[content])
    with pytest.raises(DataError) as error:
        getattr(dataset(), call)()
    assert str(path) in str(error.value)


@pytest.mark.parametrize("call", ["load", "check"])
def test_absent_file_is_refused_saying_what_it_must_hold(dataset, tmp_path, call):
    with pytest.raises(DataError, match="it must hold x_train") as error:
        getattr(dataset(), call)()
    assert str(tmp_path / "mine.npz") in str(error.value)


@pytest.mark.parametrize("key", ["mean", "std"])
@pytest.mark.parametrize("numbers", [[0.5], [0.5, 0.5], [0.5, 0.5, 0.5, 0.5]])
def test_normalisation_needs_one_number_per_channel(npz, dataset, key, numbers):
    npz(**arrays(size=(6, 5, 3)))
    with pytest.raises(ConfigError, match=rf"dataset\.{key}=.*one number per channel, 3"):
        dataset(**{key: numbers}).check()


@pytest.mark.parametrize("std", [0.0, -1.0])
def test_standard_deviation_must_be_positive(npz, dataset, std):
    npz()
    with pytest.raises(ConfigError, match=r"dataset\.std=.*must be > 0"):
        dataset(std=[std]).check()


@pytest.mark.parametrize("key", ["mean", "std"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_normalisation_must_be_finite(npz, dataset, key, number):
    npz()
    with pytest.raises(ConfigError, match=rf"dataset\.{key}"):
        dataset(**{key: [number]}).check()


def test_well_formed_file_passes_the_check(npz, dataset):
    npz(**arrays(size=(6, 5, 3)))
    dataset(mean=[0.1, 0.2, 0.3], std=[1.0, 2.0, 0.5]).check()
