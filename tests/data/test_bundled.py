"""The datasets that come inside Python packages."""

import numpy as np
import pytest

from fedsign.config import build

SIZES = {"mnist5k": (4000, 1000, 28), "digits": (1442, 355, 8)}


@pytest.fixture(params=SIZES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def dataset(resolved, tmp_path, name, cache, monkeypatch):
    monkeypatch.setenv("FEDSIGN_CACHE", str(cache))
    return build(resolved(f"dataset={name}", f"dataset.root={tmp_path}")["dataset"], "dataset.")


@pytest.fixture
def loaded(dataset):
    return dataset.load()


def test_splits_have_the_sizes_that_the_config_states(name, dataset, loaded):
    train, test, side = SIZES[name]
    assert loaded.x_train.shape == (train, side, side, 1)
    assert loaded.x_test.shape == (test, side, side, 1)
    assert (len(loaded.y_train), len(loaded.y_test)) == (train, test) == (dataset.train, dataset.test)
    assert loaded.x_train.dtype == loaded.x_test.dtype == np.uint8
    assert dataset.dimensions() == ((1, side, side), 10)
    assert dataset.training_samples() == train


def test_bundled_data_needs_no_files(dataset):
    assert dataset.is_here()
    dataset.check()


def test_second_reading_comes_from_the_cache_and_gives_the_same(dataset, loaded, monkeypatch):
    def unreadable(*args):
        raise AssertionError("read again")

    monkeypatch.setattr(type(dataset), "read", unreadable)
    again = dataset.load()
    assert np.array_equal(again.x_train, loaded.x_train)
    assert np.array_equal(again.y_test, loaded.y_test)


def test_every_fifth_image_of_a_digit_is_for_testing(name, loaded):
    train, test = np.bincount(loaded.y_train, minlength=10), np.bincount(loaded.y_test, minlength=10)
    assert (test == (train + test) // 5).all()
    if name == "mnist5k":
        assert (test == 100).all()


def test_no_training_image_is_a_test_image(loaded):
    train = {image.tobytes() for image in loaded.x_train}
    assert not any(image.tobytes() in train for image in loaded.x_test)


def test_normalised_training_pixels_have_mean_zero_and_deviation_one(dataset, loaded):
    pixels = loaded.x_train / 255
    normalised = (pixels - dataset.mean[0]) / dataset.std[0]
    assert abs(normalised.mean()) < 0.02
    assert abs(normalised.std() - 1) < 0.02


def test_pixels_reach_from_black_to_white(loaded):
    pixels = loaded.x_train
    assert (pixels.min(), pixels.max()) == (0, 255)
