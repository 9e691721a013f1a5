"""CIFAR-100 from the official python files."""

import pickle

import numpy as np
import pytest
import torch
from refusals import refusal
from torchvision.datasets import cifar as official

from fedsign.config import build
from fedsign.data import tasks

pytestmark = pytest.mark.usefixtures("cache")

FOLDER = "cifar-100-python"


@pytest.fixture
def dataset(resolved, nodes, tmp_path):
    node = nodes.get("cifar100") or nodes.setdefault("cifar100", resolved("dataset=cifar100")["dataset"])
    return build(node | {"root": str(tmp_path)}, "dataset.")


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A small folder in the official format, whose checksums are taken as right: its two files by name."""
    monkeypatch.setattr(official, "check_integrity", lambda path, md5=None: True)
    folder = tmp_path / FOLDER
    folder.mkdir()
    rng = np.random.default_rng(0)
    content = {}
    for name, n in (("train", 11), ("test", 5)):
        content[name] = {
            "data": rng.integers(0, 256, (n, 3072), dtype=np.uint8),
            "fine_labels": rng.integers(0, 100, n).tolist(),
            "coarse_labels": rng.integers(0, 20, n).tolist(),
        }
        (folder / name).write_bytes(pickle.dumps(content[name]))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}))
    return content


def test_fine_labels_are_read_in_their_order(dataset, written):
    loaded = dataset.load()
    assert loaded.y_train.tolist() == written["train"]["fine_labels"]
    assert loaded.y_test.tolist() == written["test"]["fine_labels"]
    assert loaded.y_train.dtype == np.int64


def test_colour_planes_of_a_row_become_the_last_axis(dataset, written):
    loaded = dataset.load()
    assert (loaded.x_train.shape, loaded.x_test.shape) == ((11, 32, 32, 3), (5, 32, 32, 3))
    assert loaded.x_train.dtype == np.uint8
    for channel in range(3):
        plane = written["test"]["data"][4, 1024 * channel : 1024 * (channel + 1)].reshape(32, 32)
        assert np.array_equal(loaded.x_test[4, :, :, channel], plane)


def test_batches_are_channels_last_before_and_after_caching(dataset, written):
    for _ in range(2):
        task = tasks.load(dataset, torch.device("cpu"))
        for inputs in (task.train_inputs, task.test_inputs):
            assert inputs(torch.tensor([2, 0, 4])).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("missing", ["train", "test"])
def test_both_files_must_be_there(dataset, written, tmp_path, missing):
    assert dataset.is_here()
    (tmp_path / FOLDER / missing).unlink()
    assert not dataset.is_here()


def test_shape_is_known_without_the_files(dataset):
    dataset.check()
    assert dataset.dimensions() == ((3, 32, 32), 100)
    assert dataset.training_samples() == 50_000


def test_npz_file_comes_before_official_files(dataset, written, tmp_path):
    x, y = np.full((4, 32, 32, 3), 7, dtype=np.uint8), np.array([99, 0, 3, 5])
    np.savez(tmp_path / "cifar100.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert np.array_equal(dataset.load().y_train, y)


DAMAGED = {
    "empty": b"",
    "text": b"not a pickle",
    "truncated": pickle.dumps({"data": np.zeros((4, 3072), dtype=np.uint8), "fine_labels": [0] * 4})[:-40],
    "no_data": pickle.dumps({"fine_labels": [0] * 4}),
    "no_fine_labels": pickle.dumps({"data": np.zeros((4, 3072), dtype=np.uint8), "coarse_labels": [0] * 4}),
    "another_width": pickle.dumps({"data": np.zeros((4, 784), dtype=np.uint8), "fine_labels": [0] * 4}),
    "not_a_dict": pickle.dumps([1, 2, 3]),
    "label_too_few": pickle.dumps({"data": np.zeros((4, 3072), dtype=np.uint8), "fine_labels": [0] * 3}),
}


@pytest.mark.parametrize("name", ["train", "test"])
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_file_is_refused_naming_its_folder(dataset, written, tmp_path, content, name):
    (tmp_path / FOLDER / name).write_bytes(content)
    assert str(tmp_path / FOLDER) in refusal(dataset.load)


def test_file_of_another_checksum_is_refused_naming_its_folder(dataset, written, tmp_path, monkeypatch):
    monkeypatch.setattr(official.CIFAR100, "_check_integrity", lambda self: False)
    message = refusal(dataset.load)
    assert str(tmp_path / FOLDER) in message
    assert "delete it" in message


def test_failing_download_says_what_to_place_where(dataset, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route\nto host")

    monkeypatch.setattr(official, "download_and_extract_archive", fail)
    message = refusal(dataset.load)
    for part in ("dataset=cifar100", "no route", f"{FOLDER}/", "cifar100.npz", str(tmp_path), "by hand"):
        assert part in message
