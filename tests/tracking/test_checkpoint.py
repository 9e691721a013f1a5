"""Checkpoints: whole or not there, and the last two of them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from fedsign.errors import FedsignError
from fedsign.tracking.checkpoint import Checkpoints, Snapshot

CPU = torch.device("cpu")


def snapshot(t=3, stopped=False):
    server = {"x": torch.arange(7.0) / 3 + t, "M": torch.full((7,), float(t))}
    counters = {"uplink_bits": 2.0**52 + t, "seconds": 0.1 * t}
    return Snapshot(t, stopped, server, torch.tensor([0.5, -t]), np.array([0, 1, -1], np.int8), counters)


def equal(left, right):
    return (
        (left.t, left.stopped) == (right.t, right.stopped)
        and left.server.keys() == right.server.keys()
        and all(torch.equal(left.server[name], right.server[name]) for name in left.server)
        and torch.equal(left.tail, right.tail)
        and np.array_equal(left.slots, right.slots)
        and left.counters == right.counters
    )


def load(folder, intact=lambda slots: True):
    """What another process finds."""
    return Checkpoints(folder).load(CPU, intact)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def two(tmp_path):
    """A folder with the checkpoints of rounds 1 and 2."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(snapshot(1))
    checkpoints.save(snapshot(2))
    return tmp_path


def test_nothing_is_loaded_where_nothing_is(tmp_path):
    assert load(tmp_path / "checkpoint") == []


@pytest.mark.parametrize("stopped", [False, True])
def test_a_snapshot_reads_back_bitwise(tmp_path, stopped):
    Checkpoints(tmp_path / "checkpoint").save(snapshot(stopped=stopped))
    (found,) = load(tmp_path / "checkpoint")
    assert equal(found, snapshot(stopped=stopped))
    assert found.slots.dtype == np.int8 and found.server["x"].dtype == torch.float32


def test_an_empty_tail_reads_back(tmp_path):
    Checkpoints(tmp_path).save(Snapshot(1, False, {"x": torch.ones(2)}, torch.empty(0), np.zeros(1, np.int8), {}))
    assert load(tmp_path)[0].tail.shape == (0,)


def test_a_checkpoint_is_an_npz_file(two):
    with np.load(two / "round_000002.npz") as file:
        assert file["t"] == 2


def test_the_last_two_are_kept_and_loaded_newest_first(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for t in (1, 2, 9, 10):
        checkpoints.save(snapshot(t))
    assert names(tmp_path) == ["round_000009.npz", "round_000010.npz"]
    assert [found.t for found in load(tmp_path)] == [10, 9]


def test_the_last_two_are_kept_across_processes(two):
    checkpoints = Checkpoints(two)
    checkpoints.load(CPU, lambda slots: True)
    checkpoints.save(snapshot(3))
    assert names(two) == ["round_000002.npz", "round_000003.npz"]


def test_a_third_that_a_kill_left_is_not_gone_back_to(two):
    checkpoints = Checkpoints(two)
    checkpoints.load(CPU, lambda slots: True)
    first = (two / "round_000001.npz").read_bytes()
    checkpoints.save(snapshot(3))
    (two / "round_000001.npz").write_bytes(first)
    assert [found.t for found in load(two)] == [3, 2]


def test_saving_a_round_again_replaces_it(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for t in (2, 3, 3):
        checkpoints.save(snapshot(t))
    assert names(tmp_path) == ["round_000002.npz", "round_000003.npz"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_save_that_fails_leaves_those_before_and_nothing_else(two, monkeypatch, step):
    checkpoints = Checkpoints(two)
    checkpoints.load(CPU, lambda slots: True)

    def die(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os if step == "fsync" else Path, step, die)
        checkpoints.save(snapshot(3))
    assert names(two) == ["round_000001.npz", "round_000002.npz"]
    assert equal(load(two)[0], snapshot(2))
    checkpoints.save(snapshot(3))
    assert equal(load(two)[0], snapshot(3))


def test_a_file_is_on_the_disk_before_it_is_renamed_and_its_name_before_the_old_ones_go(two, monkeypatch):
    """What a power cut could otherwise lose."""
    checkpoints, order = Checkpoints(two), []
    checkpoints.load(CPU, lambda slots: True)
    fsync, replace, unlink = os.fsync, Path.replace, Path.unlink

    def note(step, done, *arguments):
        order.append(step)
        return done(*arguments)

    def synced(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        note(f"fsync {path.name if path.is_file() else 'folder'}", fsync, descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", lambda self, to: note(f"rename {self.name}", replace, self, to))
    monkeypatch.setattr(Path, "unlink", lambda self, **kw: note(f"unlink {self.name}", unlink, self))
    checkpoints.save(snapshot(3))
    assert order == ["fsync writing.tmp", "rename writing.tmp", "fsync folder", "unlink round_000001.npz"]


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 and more", b"x" * 500])
def test_a_file_that_is_no_checkpoint_is_passed_over_with_a_warning(two, capsys, content):
    (two / "round_000003.npz").write_bytes(content)
    assert [found.t for found in load(two)] == [2, 1]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fedsign: warning: ") and "round_000003.npz is damaged" in line


def test_a_file_that_cannot_be_read_is_passed_over_with_a_warning(two, capsys, monkeypatch):
    opened = Path.open

    def fail(self, *arguments, **keywords):
        if self.name == "round_000002.npz":
            raise OSError(5, "Input/output error")
        return opened(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        assert [found.t for found in load(two)] == [1]
    assert "Input/output error" in capsys.readouterr().err
    assert [found.t for found in load(two)] == [2, 1]


def test_a_checkpoint_whose_clients_state_is_gone_is_passed_over(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path)
    for t, slot in ((1, 0), (2, 1)):
        checkpoints.save(Snapshot(t, False, {}, torch.empty(0), np.array([slot], np.int8), {}))
    assert [found.t for found in load(tmp_path, lambda slots: slots[0] == 0)] == [1]
    assert "state files" in capsys.readouterr().err


def test_a_damaged_checkpoint_goes_when_two_newer_ones_are_there(two):
    (two / "round_000003.npz").write_bytes(b"")
    checkpoints = Checkpoints(two)
    checkpoints.load(CPU, lambda slots: True)
    assert names(two) == ["round_000001.npz", "round_000002.npz", "round_000003.npz"]
    checkpoints.save(snapshot(3))
    assert names(two) == ["round_000002.npz", "round_000003.npz"]
    assert equal(load(two)[0], snapshot(3))


def test_where_all_are_damaged_nothing_is_thrown_away(two, capsys):
    for t in (1, 2):
        (two / f"round_{t:06d}.npz").write_bytes(b"")
    with pytest.raises(FedsignError, match="no checkpoint can be used; resume=never starts over"):
        load(two)
    assert capsys.readouterr().err.count(" is damaged ") == 2
    assert names(two) == ["round_000001.npz", "round_000002.npz"]
    checkpoints = Checkpoints(two)
    checkpoints.clear()
    assert checkpoints.load(CPU, lambda slots: True) == []


def test_a_checkpoint_without_its_checksum_is_passed_over(two, capsys):
    with np.load(two / "round_000002.npz") as file:
        np.savez(two / "round_000003.npz", **file)
    assert load(two)[0].t == 2
    assert "round_000003.npz is damaged" in capsys.readouterr().err


def test_a_checkpoint_cut_anywhere_is_passed_over(two):
    newest = two / "round_000002.npz"
    whole = newest.read_bytes()
    for length in range(0, len(whole), 7):
        newest.write_bytes(whole[:length])
        assert [found.t for found in load(two)] == [1]


def test_a_flipped_bit_is_noticed(two):
    newest = two / "round_000002.npz"
    whole = newest.read_bytes()
    for place in range(0, len(whole), 5):
        newest.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        assert [found.t for found in load(two)] == [1], f"byte {place}"


def test_a_pickle_is_not_loaded(two):
    checkpoints = Checkpoints(two)
    checkpoints.load(CPU, lambda slots: True)
    checkpoints.save(Snapshot(3, False, {}, torch.empty(0), np.array([{}]), {}))
    assert [found.t for found in load(two)] == [2]
