"""EMNIST digits from a small file in the official MATLAB form."""

from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refusal
from scipy.io import savemat
from torchvision.datasets import utils

from fedsign.config import build
from fedsign.data import tasks

pytestmark = pytest.mark.usefixtures("cache")

N_TRAIN, N_TEST = 12, 5


def content():
    """dataset.{train,test}.{images [N, 784], labels [N, 1], writers [N, 1]}, and dataset.mapping."""
    rng = np.random.default_rng(0)

    def split(n, first_writer):
        return {
            "images": rng.integers(0, 256, (n, 784), dtype=np.uint8),
            "labels": rng.integers(0, 10, (n, 1), dtype=np.uint8),
            "writers": (first_writer + rng.integers(0, 4, (n, 1))).astype(np.uint16),
        }

    mapping = np.stack([np.arange(10), np.arange(48, 58)], axis=1).astype(np.float64)
    return {"dataset": {"train": split(N_TRAIN, 300), "test": split(N_TEST, 900), "mapping": mapping}}


def changed(split, **fields):
    """The official content with fields of a split replaced; None leaves one out."""
    whole = content()
    part = whole["dataset"][split] | fields
    whole["dataset"][split] = {k: v for k, v in part.items() if v is not None}
    return whole


def place(folder, variables=None, compressed=True):
    Path(folder).mkdir(exist_ok=True, parents=True)
    path = Path(folder) / "emnist-digits.mat"
    savemat(path, variables or content(), do_compression=compressed)
    return path


@pytest.fixture
def dataset(resolved, nodes, tmp_path):
    node = nodes.get("emnist") or nodes.setdefault("emnist", resolved("dataset=emnist")["dataset"])
    return build(node | {"root": str(tmp_path)}, "dataset.")


@pytest.mark.parametrize("folder", [".", "matlab"])
@pytest.mark.parametrize("compressed", [False, True])
def test_images_come_out_upright_in_their_order(dataset, tmp_path, folder, compressed):
    assert not dataset.is_here()
    place(tmp_path / folder, compressed=compressed)
    assert dataset.is_here()
    loaded = dataset.load()
    assert (loaded.x_train.shape, loaded.x_test.shape) == ((N_TRAIN, 28, 28, 1), (N_TEST, 28, 28, 1))
    assert loaded.x_train.dtype == np.uint8
    for split, x in (("train", loaded.x_train), ("test", loaded.x_test)):
        rows = content()["dataset"][split]["images"]
        for i, row, column in ((0, 0, 1), (1, 27, 0), (3, 5, 20), (4, 20, 5)):
            assert x[i, row, column, 0] == rows[i, 28 * column + row]  # MATLAB counts down a column first


def test_labels_and_writers_stay_with_their_images(dataset, tmp_path):
    place(tmp_path)
    loaded, written = dataset.load(), content()["dataset"]
    assert loaded.y_train.tolist() == written["train"]["labels"][:, 0].tolist()
    assert loaded.y_test.tolist() == written["test"]["labels"][:, 0].tolist()
    assert loaded.owner_train.tolist() == written["train"]["writers"][:, 0].tolist()
    assert (loaded.y_train.dtype, loaded.owner_train.dtype) == (np.int64, np.int64)


def test_writers_are_known_again_after_caching(dataset, tmp_path):
    place(tmp_path)
    for _ in range(2):
        task = tasks.load(dataset, torch.device("cpu"))
        assert task.owners.tolist() == content()["dataset"]["train"]["writers"][:, 0].tolist()


def test_batches_are_channels_last_before_and_after_caching(dataset, tmp_path):
    place(tmp_path)
    for _ in range(2):
        task = tasks.load(dataset, torch.device("cpu"))
        for inputs in (task.train_inputs, task.test_inputs):
            assert inputs(torch.tensor([2, 0, 4])).is_contiguous(memory_format=torch.channels_last)


def test_npz_file_comes_before_the_official_file_and_may_name_owners(dataset, tmp_path):
    place(tmp_path)
    x, y = np.full((4, 28, 28), 7, dtype=np.uint8), np.array([9, 0, 3, 5])
    np.savez(tmp_path / "emnist.npz", x_train=x, y_train=y, x_test=x, y_test=y, owner_train=np.array([2, 2, 0, 1]))
    loaded = dataset.load()
    assert np.array_equal(loaded.y_train, y)
    assert loaded.owner_train.tolist() == [2, 2, 0, 1]


MALFORMED = {
    "no_dataset": {"other": np.zeros(3)},
    "dataset_of_numbers": {"dataset": np.zeros((3, 3))},
    "empty_dataset": {"dataset": np.zeros((0, 0))},
    "no_training_split": {"dataset": {"test": content()["dataset"]["test"]}},
    "no_test_split": {"dataset": {"train": content()["dataset"]["train"]}},
    "no_writers": changed("train", writers=None),
    "no_training_images": changed("train", images=None),
    "no_test_labels": changed("test", labels=None),
    "images_of_another_width": changed("test", images=np.zeros((N_TEST, 783), dtype=np.uint8)),
    "images_by_columns": changed("test", images=np.zeros((784, N_TEST), dtype=np.uint8)),
    "labels_as_text": changed("train", labels="zero"),
    "labels_in_cells": changed("train", labels=np.array([["zero"]] * N_TRAIN, dtype=object)),
    "labels_as_a_struct": changed("train", labels={"a": 1.0}),
}


@pytest.mark.parametrize("variables", MALFORMED.values(), ids=MALFORMED.keys())
def test_file_without_the_official_variables_is_refused_naming_it(dataset, tmp_path, variables):
    path = place(tmp_path, variables)
    message = refusal(dataset.load)
    assert str(path) in message
    assert "expected" in message


UNFIT = {
    "a_label_too_few": changed("train", labels=np.zeros((N_TRAIN - 1, 1), dtype=np.uint8)),
    "a_test_label_too_many": changed("test", labels=np.zeros((N_TEST + 1, 1), dtype=np.uint8)),
    "a_writer_too_few": changed("train", writers=np.zeros((N_TRAIN - 1, 1), dtype=np.uint16)),
    "images_of_another_type": changed("train", images=np.zeros((N_TRAIN, 784))),
}


@pytest.mark.parametrize("variables", UNFIT.values(), ids=UNFIT.keys())
def test_variables_that_do_not_fit_are_refused_naming_their_place(dataset, tmp_path, variables):
    place(tmp_path, variables)
    message = refusal(dataset.load)
    assert str(tmp_path) in message
    assert "expected" in message


@pytest.mark.parametrize("compressed", [False, True])
def test_file_truncated_anywhere_is_refused_naming_it(dataset, tmp_path, compressed):
    path = place(tmp_path, compressed=compressed)
    whole = path.read_bytes()
    for cut in (0, 1, 100, 127, 128, 130, 140, 200, len(whole) // 2, len(whole) - 200, len(whole) - 9):
        path.write_bytes(whole[:cut])
        assert str(path) in refusal(dataset.load), cut


def test_download_fetches_the_official_archive_into_the_root(dataset, tmp_path, monkeypatch):
    def download(url, root):
        assert url == "https://biometrics.nist.gov/cs_links/EMNIST/matlab.zip"
        assert root == str(tmp_path)
        place(tmp_path / "matlab")

    monkeypatch.setattr(utils, "download_and_extract_archive", download)
    assert dataset.load().x_train.shape == (N_TRAIN, 28, 28, 1)


def test_failing_download_says_what_to_place_where(dataset, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route\nto host")

    monkeypatch.setattr(utils, "download_and_extract_archive", fail)
    message = refusal(dataset.load)
    for part in ("dataset=emnist", "no route", "emnist-digits.mat", "matlab.zip", str(tmp_path), "by hand"):
        assert part in message
