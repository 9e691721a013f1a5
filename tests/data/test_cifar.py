"""CIFAR-10 from the official python batches."""

import pickle

import numpy as np
import pytest
from torchvision.datasets import cifar as official

from fedsign.config import build
from fedsign.errors import DataError

PER_BATCH = 4


@pytest.fixture
def dataset(resolved, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSIGN_CACHE", str(tmp_path / "cache"))
    return build(resolved("dataset=cifar10", f"dataset.root={tmp_path}")["dataset"], "dataset.")


@pytest.fixture
def batches(tmp_path, monkeypatch):
    """A small folder in the official format, whose checksums are taken as right: its six batches in order."""
    monkeypatch.setattr(official, "check_integrity", lambda path, md5=None: True)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    written = []
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        data = rng.integers(0, 256, (PER_BATCH, 3072), dtype=np.uint8)
        written.append({"data": data, "labels": rng.integers(0, 10, PER_BATCH).tolist()})
        (folder / name).write_bytes(pickle.dumps(written[-1]))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    return written


@pytest.fixture
def offline(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route\nto host")

    monkeypatch.setattr(official, "download_and_extract_archive", fail)


def test_official_batches_are_read_in_their_order(dataset, batches):
    loaded = dataset.load()
    assert np.array_equal(loaded.y_train, [label for batch in batches[:5] for label in batch["labels"]])
    assert np.array_equal(loaded.y_test, batches[5]["labels"])
    assert loaded.x_train.shape == (5 * PER_BATCH, 32, 32, 3)
    assert loaded.x_test.shape == (PER_BATCH, 32, 32, 3)
    assert loaded.x_train.dtype == np.uint8
    assert loaded.y_train.dtype == np.int64


def test_colour_planes_of_a_row_become_the_last_axis(dataset, batches):
    image, row = dataset.load().x_train[PER_BATCH + 1], batches[1]["data"][1]
    for channel in range(3):
        assert np.array_equal(image[..., channel].ravel(), row[1024 * channel : 1024 * (channel + 1)])


def test_data_is_here_when_every_batch_is(dataset, batches, tmp_path):
    assert dataset.is_here()
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    assert not dataset.is_here()


def test_shape_is_known_without_the_files(dataset):
    dataset.check()
    assert dataset.dimensions() == ((3, 32, 32), 10)
    assert dataset.training_samples() == 50_000
    assert not dataset.is_here()


def test_failing_download_says_what_to_place_by_hand(dataset, offline, tmp_path):
    with pytest.raises(DataError, match=r"download failed .*cifar-10-batches-py/ or cifar10\.npz .*by hand") as error:
        dataset.load()
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_download_that_leaves_no_files_says_what_to_place_by_hand(dataset, monkeypatch, tmp_path):
    monkeypatch.setattr(official, "check_integrity", lambda path, md5=None: True)
    with pytest.raises(DataError, match=r"cifar10\.npz .*by hand") as error:
        dataset.load()
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("damage", ["checksum", "pickle"])
def test_damaged_batches_are_refused_naming_their_folder(dataset, batches, damage, monkeypatch, tmp_path):
    if damage == "checksum":
        monkeypatch.setattr(official, "check_integrity", lambda path, md5=None: "data_batch_2" not in str(path))
    else:
        (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(b"not a pickle")
    with pytest.raises(DataError, match="corrupted") as error:
        dataset.load()
    assert str(tmp_path / "cifar-10-batches-py") in str(error.value)
    assert "\n" not in str(error.value)
