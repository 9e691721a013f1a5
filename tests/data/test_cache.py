"""Arrays that are read once: the cache file against its sources, its damage, and folders that cannot be written."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from fedsign.config import build
from fedsign.data.arrays import Arrays
from fedsign.data.cache import cached
from fedsign.data.svhn import Svhn

ARRAYS = {"x": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "y": np.array([3, -1, 2**40])}


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDSIGN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.bin"
    path.write_bytes(b"first")
    return path


class Reader:
    """Gives `ARRAYS`, and counts how often."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return ARRAYS


@pytest.fixture
def read():
    return Reader()


def same(arrays):
    return arrays.keys() == ARRAYS.keys() and all(
        np.array_equal(arrays[key], ARRAYS[key]) and arrays[key].dtype == ARRAYS[key].dtype for key in ARRAYS
    )


def only_file(folder):
    (path,) = folder.iterdir()
    return path


def test_sources_are_read_once(source, read):
    assert same(cached("mine", [source], read))
    assert same(cached("mine", [source], read))
    assert read.count == 1


def test_cached_arrays_outlive_their_file(source, read, folder):
    cached("mine", [source], read)
    arrays = cached("mine", [source], read)
    only_file(folder).unlink()
    assert same(arrays)
    assert all(array.flags.writeable for array in arrays.values())


def test_file_is_named_after_the_dataset(source, read, folder):
    cached("mine", [source], read)
    assert only_file(folder).match("mine-*.npz")


@pytest.mark.parametrize("change", ["other_size", "other_time", "another_place", "one_more_source", "another_name"])
def test_changed_source_is_read_again(source, read, change):
    cached("mine", [source], read)
    name, sources = "mine", [source]
    if change == "other_size":
        time = source.stat().st_mtime_ns
        source.write_bytes(b"longer than the first")
        os.utime(source, ns=(time, time))
    elif change == "other_time":
        os.utime(source, ns=(0, source.stat().st_mtime_ns + 1_000_000_000))
    elif change == "another_place":
        sources = [source.rename(source.with_name("elsewhere.bin"))]
    elif change == "one_more_source":
        (source.parent / "more.bin").write_bytes(b"more")
        sources = [source, source.parent / "more.bin"]
    else:
        name = "other"
    assert same(cached(name, sources, read))
    assert read.count == 2


def test_changed_source_gives_its_new_arrays(source, read):
    cached("mine", [source], read)
    source.write_bytes(b"the second")
    new = {"x": np.zeros(3), "z": np.ones(2, dtype=np.uint8)}
    for _ in range(2):
        arrays = cached("mine", [source], lambda: new)
        assert arrays.keys() == new.keys()
        assert np.array_equal(arrays["z"], new["z"])


def test_source_is_the_same_by_whatever_path_it_is_named(source, read, monkeypatch):
    cached("mine", [source], read)
    monkeypatch.chdir(source.parent)
    (source.parent / "link.bin").symlink_to(source)
    cached("mine", [Path("source.bin")], read)
    cached("mine", [Path("link.bin")], read)
    assert read.count == 1


DAMAGED = {
    "empty": lambda data: b"",
    "text": lambda data: b"not an archive",
    "truncated": lambda data: data[: len(data) // 2],
    "a_byte_short": lambda data: data[:-1],
    "pickle": lambda data: b"\x80\x04N.",
    "one_array_alone": lambda data: data[data.index(b"\x93NUMPY") :][:200],
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_file_is_replaced(source, read, folder, damage):
    cached("mine", [source], read)
    path = only_file(folder)
    path.write_bytes(damage(path.read_bytes()))
    assert same(cached("mine", [source], read))
    assert read.count == 2
    assert same(cached("mine", [source], read))
    assert read.count == 2
    assert only_file(folder) == path


def test_no_changed_byte_gives_a_changed_array_or_an_error(source, read, folder):
    cached("mine", [source], read)
    path = only_file(folder)
    whole = path.read_bytes()
    for i in range(0, len(whole), 2):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :])
        arrays = cached("mine", [source], read)
        assert same(arrays | {key: ARRAYS[key] for key in ARRAYS.keys() - arrays.keys()}), i
        assert same(arrays) or i > whole.index(b"PK\1\2"), i  # the archive's own list of its files has no checksum
    assert read.count > len(whole) // 4


def test_folder_in_place_of_the_file_only_warns(source, read, folder, capsys):
    cached("mine", [source], read)
    path = only_file(folder)
    path.unlink()
    path.mkdir()
    assert same(cached("mine", [source], read))
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert only_file(folder) == path


@pytest.mark.parametrize("where", [".", "below", "deep/below"])
def test_folder_that_cannot_be_made_only_warns(source, read, monkeypatch, tmp_path, capsys, where):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FEDSIGN_CACHE", str(tmp_path / "file" / where))
    assert same(cached("mine", [source], read))
    (warning,) = capsys.readouterr().err.splitlines()
    assert "mine" in warning
    assert str(tmp_path / "file") in warning
    assert (tmp_path / "file").read_text() == "not a folder"


def failing(error):
    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.mark.parametrize("step", ["mkdir", "open", "replace"])
def test_step_of_writing_that_is_not_permitted_only_warns(source, read, folder, monkeypatch, capsys, step):
    with monkeypatch.context() as patch:
        patch.setattr(Path, step, failing(PermissionError(errno.EACCES, "Permission denied")))
        assert same(cached("mine", [source], read))
    (warning,) = capsys.readouterr().err.splitlines()
    assert "mine" in warning
    assert str(folder) in warning
    assert "Permission denied" in warning
    assert not folder.exists() or not list(folder.iterdir())


def half(error):
    def savez(out, **arrays):
        out.write(b"half")
        out.flush()
        raise error

    return savez


def test_disk_that_fills_up_leaves_nothing_half_written(source, read, folder, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", half(OSError(errno.ENOSPC, "No space left on device")))
        assert same(cached("mine", [source], read))
    assert "No space left on device" in capsys.readouterr().err
    assert not list(folder.iterdir())
    assert same(cached("mine", [source], read))
    assert only_file(folder).suffix == ".npz"


def test_error_without_a_number_is_told_too(source, read, monkeypatch, capsys):
    monkeypatch.setattr(np, "savez", half(OSError("24 requested and 7 written")))
    assert same(cached("mine", [source], read))
    assert "24 requested and 7 written" in capsys.readouterr().err


def test_interrupted_writing_leaves_nothing_half_written(source, read, folder, monkeypatch):
    monkeypatch.setattr(np, "savez", half(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        cached("mine", [source], read)
    assert not list(folder.iterdir())


def test_file_has_its_name_only_when_it_is_whole(source, read, folder, monkeypatch):
    savez, seen = np.savez, []

    def watched(out, **arrays):
        savez(out, **arrays)
        seen.extend(folder.glob("*.npz"))

    monkeypatch.setattr(np, "savez", watched)
    cached("mine", [source], read)
    assert not seen
    assert only_file(folder).suffix == ".npz"


def test_refused_sources_leave_nothing(source, folder):
    with pytest.raises(ZeroDivisionError):
        cached("mine", [source], lambda: {"x": np.array(1 // 0)})
    assert not folder.exists()


def test_quiet_when_all_goes_well(source, read, capsys):
    cached("mine", [source], read)
    cached("mine", [source], read)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("value", ["", None, "~/kept"])
def test_folder_is_the_environments_or_below_home(source, read, monkeypatch, tmp_path, value):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if value is None:
        monkeypatch.delenv("FEDSIGN_CACHE")
    else:
        monkeypatch.setenv("FEDSIGN_CACHE", value)
    cached("mine", [source], read)
    home = tmp_path / "home"
    assert only_file(home / "kept" if value else home / ".cache" / "fedsign" / "arrays").suffix == ".npz"


@pytest.mark.parametrize("owners", [None, np.array([7, 7, 2])])
def test_dataset_is_read_once(resolved, monkeypatch, tmp_path, source, owners):
    x, y = np.arange(3 * 5 * 4, dtype=np.uint8).reshape(3, 5, 4, 1), np.array([2, 0, 1])
    monkeypatch.setattr(Svhn, "files", lambda self: [source])
    dataset = build(resolved("dataset=svhn", f"dataset.root={tmp_path}")["dataset"], "dataset.")
    with monkeypatch.context() as patch:
        patch.setattr(Svhn, "read", lambda self, files: Arrays(x, y, x[:2], y[:2], owner_train=owners))
        dataset.load()
    monkeypatch.setattr(Svhn, "read", failing(AssertionError("read again")))
    loaded = dataset.load()
    assert np.array_equal(loaded.x_train, x)
    assert np.array_equal(loaded.y_train, y)
    assert np.array_equal(loaded.x_test, x[:2])
    assert np.array_equal(loaded.y_test, y[:2])
    assert (loaded.owner_train is None) == (owners is None)
    assert owners is None or np.array_equal(loaded.owner_train, owners)


def test_npz_file_of_a_dataset_is_not_kept_twice(resolved, monkeypatch, tmp_path, folder):
    x, y = np.zeros((3, 32, 32, 3), dtype=np.uint8), np.arange(3)
    np.savez(tmp_path / "svhn.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    monkeypatch.setattr(Svhn, "read", failing(AssertionError("read")))
    build(resolved("dataset=svhn", f"dataset.root={tmp_path}")["dataset"], "dataset.").load()
    assert not folder.exists()
