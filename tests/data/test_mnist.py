"""MNIST and Fashion-MNIST from small idx files in the official form."""

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from refusals import refusal

from fedsign.config import build
from fedsign.data import tasks
from fedsign.data.mnist import FILES, FashionMnist

pytestmark = pytest.mark.usefixtures("cache")

CHOICES = {"mnist": "MNIST", "fmnist": "FashionMNIST"}  # and torchvision's names, which are those of its folders


def arrays(size=(6, 5), n_train=9, n_test=4):
    rng = np.random.default_rng(1)
    return [
        rng.integers(0, 256, (n_train, *size), dtype=np.uint8),
        rng.permutation(n_train).astype(np.uint8),
        rng.integers(0, 256, (n_test, *size), dtype=np.uint8),
        rng.permutation(n_test).astype(np.uint8),
    ]


def idx(array, kind=8):
    """The official form: two zero bytes, type, number of axes, big-endian lengths, values in C order."""
    return bytes([0, 0, kind, array.ndim]) + np.array(array.shape, dtype=">i4").tobytes() + array.tobytes()


def place(folder, packed=(True,) * 4, content=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array, pack in zip(FILES, content or arrays(), packed, strict=True):
        data = idx(array)
        (folder / (name + ".gz" * pack)).write_bytes(gzip.compress(data) if pack else data)
    return folder


def same(loaded, content):
    pairs = zip((loaded.x_train[..., 0], loaded.y_train, loaded.x_test[..., 0], loaded.y_test), content, strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(autouse=True)
def installed(monkeypatch, tmp_path):
    """The folder that stands for Debian's."""
    monkeypatch.setattr(FashionMnist, "folders", (*FashionMnist.folders[:-1], str(tmp_path / "installed")))
    return tmp_path / "installed"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def dataset(resolved, nodes, root):
    def make(choice="mnist", **values):
        node = nodes.get(choice) or nodes.setdefault(choice, resolved(f"dataset={choice}")["dataset"])
        return build(node | {"root": str(root)} | values, "dataset.")

    return make


def test_images_and_labels_are_read_in_their_order_and_upright(dataset, root):
    place(root)
    loaded = dataset().load()
    assert same(loaded, arrays())
    assert loaded.x_train.shape == (9, 6, 5, 1)
    assert (loaded.x_train.dtype, loaded.y_train.dtype) == (np.uint8, np.int64)


@pytest.mark.parametrize("packed", [(True,) * 4, (False,) * 4, (True, False, False, True)], ids=str)
@pytest.mark.parametrize(
    ("choice", "folder"),
    [
        ("mnist", "MNIST/raw"), ("mnist", "mnist"), ("mnist", "."),
        ("fmnist", "FashionMNIST/raw"), ("fmnist", "fashion-mnist"), ("fmnist", "."), ("fmnist", "../installed"),
    ],
)  # fmt: skip
def test_files_are_found_packed_or_not(dataset, root, choice, folder, packed):
    assert not dataset(choice).is_here()
    place(root / folder, packed)
    assert dataset(choice).is_here()
    assert same(dataset(choice).load(), arrays())


def test_files_of_debians_package_are_looked_for_where_it_installs_them(monkeypatch):
    monkeypatch.undo()
    assert FashionMnist.folders[-1] == "/usr/share/datasets/fashion-mnist"


def test_one_dataset_is_not_taken_for_the_other(dataset, root):
    place(root / "MNIST" / "raw")
    assert not dataset("fmnist").is_here()


def test_folder_without_all_four_files_is_passed_over(dataset, root):
    place(root / "MNIST" / "raw", content=arrays(n_train=5))
    (root / "MNIST" / "raw" / f"{FILES[3]}.gz").unlink()
    assert not dataset().is_here()
    place(root / "mnist")
    assert same(dataset().load(), arrays())


def test_torchvisions_folder_comes_before_the_others(dataset, root):
    place(root / "mnist", content=arrays(n_train=5))
    place(root / "MNIST" / "raw")
    assert same(dataset().load(), arrays())


@pytest.mark.parametrize("choice", CHOICES)
def test_npz_file_comes_before_official_files(dataset, root, choice):
    place(root)
    content = arrays(n_train=7)
    np.savez(root / f"{choice}.npz", **dict(zip(("x_train", "y_train", "x_test", "y_test"), content, strict=True)))
    assert same(dataset(choice).load(), content)


def test_changed_file_is_read_again(dataset, root):
    place(root, content=arrays(n_train=5))
    dataset().load()
    place(root)
    assert same(dataset().load(), arrays())


DAMAGED = {
    "empty": lambda data: b"",
    "magic_cut": lambda data: data[:3],
    "lengths_missing": lambda data: data[:4],
    "lengths_cut_within_a_number": lambda data: data[:6],
    "lengths_cut_between_numbers": lambda data: data[:8],
    "values_missing": lambda data: data[:16],
    "one_byte_too_few": lambda data: data[:-1],
    "one_byte_too_many": lambda data: data + b"\0",
    "wrong_magic": lambda data: b"\1" + data[1:],
    "values_of_another_type": lambda data: data[:2] + b"\x0d" + data[3:],
    "text": lambda data: b"<!DOCTYPE html><html>not found</html>",
    "negative_lengths": lambda data: data[:4] + np.array([-9, -6, 5], dtype=">i4").tobytes() + data[16:],
}


@pytest.mark.parametrize("pack", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_idx_file_is_refused_naming_it(dataset, root, damage, pack):
    place(root, (pack,) * 4)
    path = root / (FILES[0] + ".gz" * pack)
    data = damage(idx(arrays()[0]))
    path.write_bytes(gzip.compress(data) if pack else data)
    assert str(path) in refusal(dataset().load)


@pytest.mark.parametrize("name", FILES)
def test_truncated_file_is_refused_with_the_bytes_that_its_header_says(dataset, root, name):
    path = place(root, (False,) * 4) / name
    size = len(path.read_bytes())
    path.write_bytes(path.read_bytes()[:-2])
    message = refusal(dataset().load)
    assert all(part in message for part in (str(path), f"{size - 2} bytes", f"header says {size}"))


CORRUPT = {
    "a_byte_changed": lambda data: data[:20] + bytes([data[20] ^ 0xFF]) + data[21:],
    "no_such_block": lambda data: data[:10] + b"\xff" + data[11:],
    "truncated": lambda data: data[:-9],
    "not_packed": lambda data: b"plain text",
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("damage", CORRUPT.values(), ids=CORRUPT.keys())
@pytest.mark.parametrize("name", FILES)
def test_damaged_gz_is_refused_naming_it(dataset, root, name, damage):
    path = place(root) / f"{name}.gz"
    path.write_bytes(damage(path.read_bytes()))
    assert str(path) in refusal(dataset().load)


UNFIT = {
    "a_label_too_few": {1: np.zeros(8, dtype=np.uint8)},
    "a_test_label_too_many": {3: np.zeros(5, dtype=np.uint8)},
    "images_in_place_of_labels": {1: arrays()[0]},
    "labels_in_place_of_images": {2: arrays()[3]},
    "test_images_of_another_size": {2: np.zeros((4, 5, 6), dtype=np.uint8)},
    "no_images": {0: np.zeros((0, 6, 5), dtype=np.uint8), 1: np.zeros(0, dtype=np.uint8)},
}


@pytest.mark.parametrize("changes", UNFIT.values(), ids=UNFIT.keys())
def test_files_that_do_not_fit_each_other_are_refused_naming_their_place(dataset, root, changes):
    place(root, content=[changes.get(i, array) for i, array in enumerate(arrays())])
    message = refusal(dataset().load)
    assert str(root) in message
    assert "expected" in message


def test_images_unlike_the_config_are_refused(dataset, root):
    place(root)
    message = refusal(lambda: tasks.load(dataset(), torch.device("cpu")))
    assert "mnist" in message
    assert "(28, 28, 1)" in message


def test_batches_come_without_a_warning_and_channels_last(dataset, root):
    place(root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task = tasks.load(dataset(shape=[1, 6, 5]), torch.device("cpu"))
    x, _ = task.batch(torch.tensor([3, 0]), np.random.default_rng(0))
    assert x.is_contiguous(memory_format=torch.channels_last)
    pixels = (arrays()[0][[3, 0]] / 255 - 0.1307) / 0.3081
    np.testing.assert_allclose(x[:, 0].numpy(), pixels, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("choice", "torchvision_name"), CHOICES.items())
def test_download_goes_to_the_root_and_is_read(dataset, root, monkeypatch, choice, torchvision_name):
    def download(folder, download):
        assert download
        place(Path(folder) / torchvision_name / "raw")

    monkeypatch.setattr(torchvision.datasets, torchvision_name, download)
    assert same(dataset(choice).load(), arrays())
    assert (root / torchvision_name / "raw").exists()


@pytest.mark.parametrize(("choice", "torchvision_name"), CHOICES.items())
def test_failing_download_says_what_to_place_where(dataset, root, monkeypatch, choice, torchvision_name):
    def fail(*args, **kwargs):
        raise RuntimeError("Error downloading train-images:\nTried http://nowhere, got:\nno route")

    monkeypatch.setattr(torchvision.datasets, torchvision_name, fail)
    message = refusal(dataset(choice).load)
    for part in (f"dataset={choice}", "Error downloading train-images", FILES[0], "[.gz]", str(root), "by hand"):
        assert part in message


def test_download_that_brings_nothing_says_what_to_place_where(dataset, root, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "MNIST", lambda *args, **kwargs: None)
    message = refusal(dataset().load)
    assert "still not there" in message
    assert f"under {root} by hand" in message


def test_files_that_are_here_are_not_downloaded(dataset, root, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "MNIST", lambda *args, **kwargs: pytest.fail("downloaded"))
    place(root)
    dataset().load()
