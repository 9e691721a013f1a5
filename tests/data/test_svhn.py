"""SVHN from small files in the official MATLAB form."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from refusals import refusal
from scipy.io import savemat

from fedsign.config import build
from fedsign.data import tasks

pytestmark = pytest.mark.usefixtures("cache")

SIZES = {"train_32x32.mat": 12, "test_32x32.mat": 5}


def content(name):
    """X [32, 32, 3, N] and y [N, 1] with 1..10, 10 for the digit 0."""
    n = SIZES[name]
    rng = np.random.default_rng(n)
    x = rng.integers(0, 256, (32, 32, 3, n), dtype=np.uint8)
    return {"X": x, "y": (rng.permutation(n) % 10 + 1).astype(np.uint8)[:, None]}


def place(folder, compressed=False):
    for name in SIZES:
        savemat(Path(folder) / name, content(name), do_compression=compressed)


@pytest.fixture
def dataset(resolved, nodes, tmp_path):
    node = nodes.get("svhn") or nodes.setdefault("svhn", resolved("dataset=svhn")["dataset"])
    return build(node | {"root": str(tmp_path)}, "dataset.")


@pytest.mark.parametrize("compressed", [False, True])
def test_images_come_out_upright_in_their_order(dataset, tmp_path, compressed):
    place(tmp_path, compressed)
    loaded = dataset.load()
    for name, x in (("train_32x32.mat", loaded.x_train), ("test_32x32.mat", loaded.x_test)):
        assert x.shape == (SIZES[name], 32, 32, 3)
        assert x.dtype == np.uint8
        for i in range(SIZES[name]):
            assert np.array_equal(x[i], content(name)["X"][:, :, :, i])


def test_label_ten_is_the_digit_zero_and_the_others_are_themselves(dataset, tmp_path):
    place(tmp_path)
    loaded = dataset.load()
    for name, y in (("train_32x32.mat", loaded.y_train), ("test_32x32.mat", loaded.y_test)):
        assert y.tolist() == [0 if label == 10 else label for label in content(name)["y"][:, 0].tolist()]
        assert y.dtype == np.int64
    assert 10 in content("train_32x32.mat")["y"]


def test_batches_are_channels_last_before_and_after_caching(dataset, tmp_path):
    place(tmp_path)
    for _ in range(2):
        task = tasks.load(dataset, torch.device("cpu"))
        for inputs in (task.train_inputs, task.test_inputs):
            assert inputs(torch.tensor([2, 0, 4])).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("missing", SIZES)
def test_both_files_must_be_there(dataset, tmp_path, missing):
    place(tmp_path)
    assert dataset.is_here()
    (tmp_path / missing).unlink()
    assert not dataset.is_here()


def test_npz_file_comes_before_official_files(dataset, tmp_path):
    place(tmp_path)
    x, y = np.full((4, 32, 32, 3), 7, dtype=np.uint8), np.array([9, 0, 3, 5])
    np.savez(tmp_path / "svhn.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert np.array_equal(dataset.load().y_train, y)


MALFORMED = {
    "no_images": {"X": None},
    "no_labels": {"y": None},
    "images_without_a_sample_axis": {"X": np.zeros((32, 32, 3), dtype=np.uint8)},
    "images_as_text": {"X": "images"},
    "labels_as_text": {"y": "labels"},
    "labels_in_cells": {"y": np.array([["a"], ["b"]], dtype=object)},
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("changes", MALFORMED.values(), ids=MALFORMED.keys())
def test_file_without_the_official_variables_is_refused_naming_it(dataset, tmp_path, changes, name):
    place(tmp_path)
    savemat(tmp_path / name, {k: v for k, v in (content(name) | changes).items() if v is not None})
    message = refusal(dataset.load)
    assert str(tmp_path / name) in message
    assert "expected X [H, W, 3, N] and y [N, 1]" in message


UNFIT = {
    "a_label_too_few": {"y": np.ones((4, 1), dtype=np.uint8)},
    "images_of_another_type": {"X": np.zeros((32, 32, 3, 5))},
    "images_of_another_size": {"X": np.zeros((16, 16, 3, 5), dtype=np.uint8)},
}


@pytest.mark.parametrize("changes", UNFIT.values(), ids=UNFIT.keys())
def test_variables_that_do_not_fit_are_refused_naming_their_place(dataset, tmp_path, changes):
    place(tmp_path)
    savemat(tmp_path / "test_32x32.mat", content("test_32x32.mat") | changes)
    message = refusal(dataset.load)
    assert str(tmp_path) in message
    assert "expected" in message


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("compressed", [False, True])
def test_file_truncated_anywhere_is_refused_naming_it(dataset, tmp_path, compressed, name):
    place(tmp_path, compressed)
    whole = (tmp_path / name).read_bytes()
    for cut in (0, 1, 100, 127, 128, 130, 140, 200, len(whole) // 2, len(whole) - 200, len(whole) - 9):
        (tmp_path / name).write_bytes(whole[:cut])
        assert str(tmp_path / name) in refusal(dataset.load), cut


def test_file_of_another_kind_is_refused_naming_it(dataset, tmp_path):
    place(tmp_path)
    (tmp_path / "train_32x32.mat").write_text("<html>404 not found</html>" * 50)
    assert str(tmp_path / "train_32x32.mat") in refusal(dataset.load)


def test_download_brings_both_splits_to_the_root(dataset, tmp_path, monkeypatch):
    def download(root, split, download):
        assert download
        savemat(Path(root) / f"{split}_32x32.mat", content(f"{split}_32x32.mat"))

    monkeypatch.setattr(torchvision.datasets, "SVHN", download)
    assert dataset.load().x_train.shape == (12, 32, 32, 3)
    assert dataset.is_here()


def test_failing_download_says_what_to_place_where(dataset, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route\nto host")

    monkeypatch.setattr(torchvision.datasets, "SVHN", fail)
    message = refusal(dataset.load)
    for part in ("dataset=svhn", "no route", *SIZES, str(tmp_path), "by hand"):
        assert part in message
