"""Clients that the data brings along."""

import hashlib
import json

import numpy as np
import pytest

from fedsign.config import Config, build
from fedsign.errors import ConfigError
from fedsign.randomness import generator


def natural():
    return build({"_target_": "fedsign.federation.natural.Natural", "name": "natural"}, "partition.")


def split(owners, clients=1):
    return natural().split(np.zeros(len(owners), dtype=np.int64), owners, clients, generator(0, "partition"))


@pytest.fixture
def written(tmp_path):
    """The overrides of a dataset of 60 images by writers 3, 5, 7 and 40."""
    rng = np.random.default_rng(0)
    arrays = {f"x_{part}": rng.integers(0, 256, (60, 4, 4), dtype=np.uint8) for part in ("train", "test")}
    labels = {f"y_{part}": np.arange(60) % 3 for part in ("train", "test")}
    np.savez(tmp_path / "written.npz", **arrays, **labels, owner_train=np.array([7, 3, 40, 5])[np.arange(60) % 4])
    np.savez(tmp_path / "anonymous.npz", **arrays, **labels)
    return ["dataset=npz", "dataset.name=written", f"dataset.root={tmp_path}", "model=mlp", "model.hidden=[4]"]


def test_each_owner_is_a_client_in_the_order_of_their_ids():
    parts = split(np.array([40, 3, 7, 3, 40, 40, -1]))
    assert [part.tolist() for part in parts] == [[6], [1, 3], [2], [0, 4, 5]]
    assert all(part.dtype == np.int64 for part in parts)


def test_every_sample_is_its_owners():
    owners = np.random.default_rng(0).integers(0, 10_000, 5000)
    parts = split(owners)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(5000))
    assert [set(owners[part]) for part in parts] == [{owner} for owner in np.unique(owners)]


def test_the_number_of_clients_asked_for_and_the_seed_do_not_matter():
    owners = np.arange(100) % 7
    first, other = split(owners, 3), split(owners, 1000)
    assert len(first) == 7
    assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_partition_never_changes():
    data = np.concatenate([np.append(part, -1) for part in split(np.arange(5000) ** 2 % 101)])
    assert hashlib.sha256(data.astype("<i8").tobytes()).hexdigest()[:16] == "438a806b6b63b4a2"


def test_unknown_owners_are_refused():
    with pytest.raises(ConfigError, match="partition=natural: the dataset does not say who its samples come from"):
        natural().split(np.zeros(5, dtype=np.int64), None, 2, generator(0, "partition"))


def test_a_run_has_the_clients_of_the_data(run, written):
    folder = run(*written, "partition=natural", "clients=1000", "cohort=4", "rounds=1", "local.epochs=1")
    assert json.loads((folder / "summary.json").read_text())["clients"] == 4
    assert (folder / "cohorts.csv").read_text().split() == ["round,clients", "1,0", "1", "2", "3"]


def test_a_cohort_larger_than_the_clients_of_the_data_is_refused(run, written):
    with pytest.raises(ConfigError, match=r"cohort=5: .*clients=4"):
        run(*written, "partition=natural", "cohort=5", "rounds=1")


def test_a_run_on_data_without_owners_is_refused(run, written, resolved):
    overrides = [*written, "dataset.name=anonymous", "partition=natural", "cohort=4"]
    Config(resolved(*overrides, "output=unused"))  # the owners are not known before the data is loaded
    with pytest.raises(ConfigError, match="partition=natural"):
        run(*overrides)
