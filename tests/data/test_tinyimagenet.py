"""Tiny-ImageNet from a small folder in the official form."""

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refusal
from torchvision.datasets import utils

from fedsign.config import build
from fedsign.data import tasks

pytestmark = pytest.mark.usefixtures("cache")

WNIDS = ("n03000000", "n01000000", "n02000000")  # the official list is not in the order of the alphabet
PER_CLASS = 11  # so that _10 comes before _2 by name
VALIDATION = (("val_0.JPEG", 2), ("val_1.JPEG", 0), ("val_10.JPEG", 0), ("val_2.JPEG", 1))


def picture(*key, size=(64, 64)):
    """An image whose four quarters have colours of their own, and its pixels."""
    colours = np.random.default_rng([len(key), *key]).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    pixels = colours.repeat(size[0] // 2, axis=0).repeat(size[1] // 2, axis=1)
    return Image.fromarray(pixels), pixels


@pytest.fixture
def root(tmp_path):
    """The folder that holds tiny-imagenet-200."""
    place(tmp_path / "root")
    return tmp_path / "root"


def place(root):
    folder = root / "tiny-imagenet-200"
    for label, wnid in enumerate(WNIDS):
        images = folder / "train" / wnid / "images"
        images.mkdir(parents=True)
        (images.parent / f"{wnid}_boxes.txt").write_text("not an image")
        for i in range(PER_CLASS):
            picture(label, i)[0].save(images / f"{wnid}_{i}.JPEG", quality=95, subsampling=0)
    (folder / "val" / "images").mkdir(parents=True)
    for i, (name, _) in enumerate(VALIDATION):
        picture(i)[0].save(folder / "val" / "images" / name, quality=95, subsampling=0)
    rows = (f"{name}\t{WNIDS[label]}\t0\t32\t44\t62\n" for name, label in VALIDATION)
    (folder / "val" / "val_annotations.txt").write_text("".join(rows))
    (folder / "wnids.txt").write_text("\n".join(WNIDS) + "\n")


def train_path(root, label, i):
    return root / "tiny-imagenet-200" / "train" / WNIDS[label] / "images" / f"{WNIDS[label]}_{i}.JPEG"


def validation_path(root, name):
    return root / "tiny-imagenet-200" / "val" / "images" / name


@pytest.fixture
def dataset(resolved, nodes, tmp_path):
    node = nodes.get("dataset") or nodes.setdefault("dataset", resolved("dataset=tinyimagenet")["dataset"])
    return build(node | {"root": str(tmp_path / "root")}, "dataset.")


def close(pixels, expected):
    return np.abs(pixels.astype(int) - expected.astype(int)).max() <= 6  # what JPEG changes


def test_training_images_are_in_the_order_of_the_classes_then_of_their_names(dataset, root):
    loaded = dataset.load()
    assert loaded.y_train.tolist() == [label for label in range(3) for _ in range(PER_CLASS)]
    by_name = sorted(range(PER_CLASS), key=str)
    keys = [(label, i) for label in range(3) for i in by_name]
    assert loaded.x_train.shape == (len(keys), 64, 64, 3)
    assert all(close(x, picture(*key)[1]) for x, key in zip(loaded.x_train, keys, strict=True))
    assert not close(loaded.x_train[0], loaded.x_train[1])


def test_validation_images_are_the_test_split_in_the_order_of_the_annotations(dataset, root):
    loaded = dataset.load()
    assert loaded.y_test.tolist() == [label for _, label in VALIDATION]
    assert loaded.x_test.shape == (len(VALIDATION), 64, 64, 3)
    assert all(close(x, picture(i)[1]) for i, x in enumerate(loaded.x_test))


def test_grey_images_get_three_equal_channels(dataset, root):
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64).astype(np.uint8)).save(train_path(root, 0, 0))
    image = dataset.load().x_train[0]
    assert image.shape == (64, 64, 3)
    assert (image == image[..., :1]).all()
    assert image.std() > 0


def test_folder_is_here_only_with_its_lists(dataset, root):
    assert dataset.is_here()
    (root / "tiny-imagenet-200" / "val" / "val_annotations.txt").unlink()
    assert not dataset.is_here()


def test_npz_file_comes_before_the_official_folder(dataset, root):
    x, y = np.full((4, 64, 64, 3), 7, dtype=np.uint8), np.array([199, 0, 3, 5])
    np.savez(root / "tinyimagenet.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert np.array_equal(dataset.load().y_train, y)


def test_images_are_read_once(dataset, root):
    first = dataset.load()
    train_path(root, 0, 0).write_bytes(b"no image any more")
    second = dataset.load()
    assert np.array_equal(first.x_train, second.x_train)
    assert np.array_equal(first.y_test, second.y_test)


def test_statistics_of_the_config_are_those_of_the_training_split(dataset, root):
    task = tasks.load(dataset, torch.device("cpu"))
    inputs = task.train_inputs(torch.arange(3 * PER_CLASS))
    assert abs(inputs.mean()) < 1e-4
    assert abs(inputs.std(correction=0) - 1) < 1e-4


def test_class_without_a_folder_is_refused_naming_it(dataset, root):
    folder = root / "tiny-imagenet-200"
    (folder / "train" / WNIDS[1]).rename(folder / "elsewhere")
    message = refusal(dataset.load)
    assert str(folder / "train" / WNIDS[1]) in message
    assert "images/*.JPEG" in message


def test_class_without_images_is_refused_naming_it(dataset, root):
    for i in range(PER_CLASS):
        train_path(root, 2, i).unlink()
    assert str(root / "tiny-imagenet-200" / "train" / WNIDS[2]) in refusal(dataset.load)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("damage", ["text", "empty", "truncated", "folder"])
def test_unreadable_image_is_refused_naming_it(dataset, root, split, damage):
    path = train_path(root, 1, 4) if split == "train" else validation_path(root, "val_10.JPEG")
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes({"text": b"<html>", "empty": b"", "truncated": data[: len(data) // 2]}[damage])
    assert str(path) in refusal(dataset.load)


def test_missing_validation_image_is_refused_naming_it(dataset, root):
    path = validation_path(root, "val_10.JPEG")
    path.unlink()
    assert str(path) in refusal(dataset.load)


@pytest.mark.parametrize("size", [(32, 32), (64, 62)])
@pytest.mark.parametrize("split", ["train", "val"])
def test_image_of_another_size_is_refused_naming_it(dataset, root, split, size):
    path = train_path(root, 0, 3) if split == "train" else validation_path(root, "val_10.JPEG")
    picture(0, size=size)[0].save(path)
    message = refusal(dataset.load)
    assert str(path) in message
    assert str((*size, 3)) in message
    assert "expected (64, 64, 3)" in message


ANNOTATIONS = {
    "unknown_class": b"val_0.JPEG\tn01000000\t0\t0\t9\t9\nval_1.JPEG\tn09999999\t0\t0\t9\t9\n",
    "no_class": b"val_0.JPEG\n",
    "spaces_for_tabs": b"val_0.JPEG n01000000 0 0 9 9\n",
    "empty": b"",
    "undecodable": b"\xff\xfe\x00val",
}


@pytest.mark.parametrize("content", ANNOTATIONS.values(), ids=ANNOTATIONS.keys())
def test_malformed_annotations_are_refused_naming_their_place(dataset, root, content):
    (root / "tiny-imagenet-200" / "val" / "val_annotations.txt").write_bytes(content)
    assert str(root / "tiny-imagenet-200") in refusal(dataset.load)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00n01"], ids=["empty", "blank", "undecodable"])
def test_malformed_list_of_classes_is_refused_naming_its_place(dataset, root, content):
    (root / "tiny-imagenet-200" / "wnids.txt").write_bytes(content)
    assert str(root / "tiny-imagenet-200") in refusal(dataset.load)


def test_download_fetches_the_official_archive_into_the_root(dataset, tmp_path, monkeypatch):
    def download(url, root):
        assert url == "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
        assert root == str(tmp_path / "root")
        place(tmp_path / "root")

    monkeypatch.setattr(utils, "download_and_extract_archive", download)
    assert dataset.load().x_train.shape == (3 * PER_CLASS, 64, 64, 3)


def test_failing_download_says_what_to_place_where(dataset, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route\nto host")

    monkeypatch.setattr(utils, "download_and_extract_archive", fail)
    message = refusal(dataset.load)
    for part in ("dataset=tinyimagenet", "no route", "tiny-imagenet-200/", ".zip", str(tmp_path / "root"), "by hand"):
        assert part in message
