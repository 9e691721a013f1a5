"""Checkpoints: whole or not there, and the last two of them."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from fedsign.tracking.checkpoint import Snapshot, load, save

CPU = torch.device("cpu")


def snapshot(t=3):
    server = {"x": torch.arange(7.0) / 3 + t, "M": torch.full((7,), float(t))}
    counters = {"uplink_bits": 2.0**52 + t, "seconds": 0.1 * t}
    return Snapshot(t, server, torch.tensor([0.5, -t]), np.array([0, 1, -1], np.int8), counters)


def equal(left, right):
    return (
        left.t == right.t
        and left.server.keys() == right.server.keys()
        and all(torch.equal(left.server[name], right.server[name]) for name in left.server)
        and torch.equal(left.tail, right.tail)
        and np.array_equal(left.slots, right.slots)
        and left.counters == right.counters
    )


def test_nothing_is_loaded_where_nothing_is(tmp_path):
    assert load(tmp_path / "checkpoint", CPU) is None


def test_a_snapshot_reads_back_bitwise(tmp_path):
    save(tmp_path / "checkpoint", snapshot())
    found = load(tmp_path / "checkpoint", CPU)
    assert equal(found, snapshot())
    assert found.slots.dtype == np.int8 and found.server["x"].dtype == torch.float32


def test_an_empty_tail_reads_back(tmp_path):
    save(tmp_path, Snapshot(1, {"x": torch.ones(2)}, torch.empty(0), np.zeros(1, np.int8), {}))
    assert load(tmp_path, CPU).tail.shape == (0,)


def test_the_last_two_are_kept_and_the_newest_is_loaded(tmp_path):
    for t in (1, 2, 9, 10):
        save(tmp_path, snapshot(t))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round_000009.npz", "round_000010.npz"]
    assert load(tmp_path, CPU).t == 10


def test_saving_a_round_again_replaces_it(tmp_path):
    save(tmp_path, snapshot())
    save(tmp_path, snapshot())
    assert [path.name for path in tmp_path.iterdir()] == ["round_000003.npz"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_save_that_dies_leaves_the_one_before(tmp_path, monkeypatch, step):
    save(tmp_path, snapshot(1))

    def die(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if step == "fsync" else Path, step, die)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, snapshot(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert equal(load(tmp_path, CPU), snapshot(1))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 and more"])
def test_a_file_that_is_no_checkpoint_is_passed_over_with_a_warning(tmp_path, content):
    save(tmp_path, snapshot(1))
    (tmp_path / "round_000002.npz").write_bytes(content)
    with pytest.warns(UserWarning, match=r"round_000002\.npz is damaged"):
        assert load(tmp_path, CPU).t == 1


def test_nothing_is_loaded_where_all_are_damaged(tmp_path):
    for t in (1, 2):
        save(tmp_path, snapshot(t))
        (tmp_path / f"round_{t:06d}.npz").write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"):
        assert load(tmp_path, CPU) is None


def test_a_checkpoint_without_an_array_is_passed_over(tmp_path):
    save(tmp_path, snapshot(1))
    with np.load(tmp_path / "round_000001.npz") as file:
        arrays = {name: file[name] for name in file.files if name != "tail"}
    np.savez(tmp_path / "round_000002.npz", **arrays)
    with pytest.warns(UserWarning, match=r"round_000002\.npz is damaged"):
        assert load(tmp_path, CPU).t == 1


def test_a_checkpoint_cut_anywhere_is_passed_over(tmp_path):
    save(tmp_path, snapshot(1))
    save(tmp_path, snapshot(2))
    newest = tmp_path / "round_000002.npz"
    whole = newest.read_bytes()
    believed = []
    for length in range(0, len(whole), 7):
        newest.write_bytes(whole[:length])
        with pytest.warns(UserWarning, match="damaged"):
            believed.append(load(tmp_path, CPU).t)
    assert set(believed) == {1}


@pytest.mark.filterwarnings("ignore:.*damaged")
def test_a_flipped_byte_is_harmless_or_noticed(tmp_path):
    save(tmp_path, snapshot(1))
    save(tmp_path, snapshot(2))
    newest = tmp_path / "round_000002.npz"
    whole = newest.read_bytes()
    for place in range(0, len(whole), 3):
        newest.write_bytes(whole[:place] + bytes([whole[place] ^ 0x81]) + whole[place + 1 :])
        found = load(tmp_path, CPU)
        assert equal(found, snapshot(found.t)), f"byte {place}"
