"""CSV files that grow row by row."""

import csv
import io
import os
from pathlib import Path

import pytest

from fedsign.errors import FedsignError
from fedsign.tracking.table import Table


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def filled(tmp_path):
    path = tmp_path / "metrics.csv"
    table = Table(path, 0)
    for t in (1, 2, 3):
        table.append({"round": t, "loss": 0.1 * t})
    return path


def test_every_row_is_on_disk_at_once(tmp_path):
    table = Table(tmp_path / "metrics.csv", 0)
    for t in (1, 2):
        table.append({"round": t, "loss": t / 3})
        assert [row["round"] for row in rows(table.path)] == [str(i + 1) for i in range(t)]


def test_columns_keep_the_order_of_the_first_row(tmp_path):
    table = Table(tmp_path / "metrics.csv", 0)
    table.append({"round": 1, "b": 2, "a": 3})
    table.append({"a": 4, "round": 2, "b": 5})
    assert table.path.read_text() == "round,b,a\n1,2,3\n2,5,4\n"


def test_missing_and_empty_values_are_empty(tmp_path):
    table = Table(tmp_path / "metrics.csv", 0)
    table.append({"round": 1, "a": None, "b": 2})
    table.append({"round": 2, "b": 3})
    assert table.path.read_text() == "round,a,b\n1,,2\n2,,3\n"


def test_a_column_that_the_first_row_lacks_is_refused(tmp_path):
    table = Table(tmp_path / "metrics.csv", 0)
    table.append({"round": 1})
    with pytest.raises(ValueError, match="b"):
        table.append({"round": 2, "b": 3})


def test_floats_read_back_exactly(tmp_path):
    table = Table(tmp_path / "metrics.csv", 0)
    table.append({"round": 1, "value": 0.1 + 0.2})
    assert float(rows(table.path)[0]["value"]) == 0.1 + 0.2


def test_a_new_table_forgets_what_was_there(filled):
    assert Table(filled, 0).rows == []
    assert filled.read_text() == ""


@pytest.mark.parametrize(("keep", "left"), [(1, ["1"]), (2, ["1", "2"]), (3, ["1", "2", "3"])])
def test_rows_after_the_checkpoint_are_dropped(filled, keep, left):
    table = Table(filled, keep)
    assert [row["round"] for row in table.rows] == left
    assert [row["round"] for row in rows(filled)] == left


def test_kept_rows_are_the_same_bytes(filled):
    before = filled.read_bytes()
    Table(filled, 3)
    assert filled.read_bytes() == before


def test_a_kept_table_grows(filled):
    Table(filled, 2).append({"round": 3, "loss": 9})
    assert [row["loss"] for row in rows(filled)] == ["0.1", "0.2", "9"]


@pytest.mark.parametrize(
    "torn",
    [
        b"4",
        b"4,",
        b"4,0.",
        b"\n",
        b"4,0.4,0.4\n4",
        b"\0\0\0\0",
        b"\xff\xfe\n",
        b"x,y\n",
        b'4,"0.4\n5,0.5\n',
        b"4,\r0.4\n",
    ],
)
def test_a_torn_end_does_no_harm(filled, torn):
    before = filled.read_bytes()
    filled.write_bytes(before + torn)
    assert [row["round"] for row in Table(filled, 3).rows] == ["1", "2", "3"]
    assert filled.read_bytes() == before


@pytest.mark.parametrize("cut", range(0, 22, 3))
def test_a_row_that_a_checkpoint_counts_on_and_that_is_gone_is_named_and_nothing_is_written(filled, cut):
    left = filled.read_bytes()[:-1][:cut]
    filled.write_bytes(left)
    with pytest.raises(FedsignError, match=r"metrics\.csv: round [123] is missing.* done 3; resume=never"):
        Table(filled, 3)
    assert filled.read_bytes() == left


def test_a_table_that_is_not_there_is_empty(tmp_path):
    assert Table(tmp_path / "metrics.csv", 0).rows == []
    with pytest.raises(FedsignError, match="round 1 is missing"):
        Table(tmp_path / "cohorts.csv", 5)


def test_rows_are_expected_of_every_so_many_rounds(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("round,a\n3,1\n6,2\n")
    assert len(Table(path, 8, every=3).rows) == 2
    with pytest.raises(FedsignError, match="round 9 is missing"):
        Table(path, 9, every=3)


def test_a_table_is_never_seen_without_the_rows_it_keeps(filled, monkeypatch):
    before = filled.read_bytes()

    def die(*arguments):
        raise OSError(28, "No space left on device")

    for step in ((os, "fsync"), (Path, "replace")):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr(*step, die)
            Table(filled, 2)
        assert filled.read_bytes() == before
        assert list(filled.parent.iterdir()) == [filled]


class FullDisk(io.FileIO):
    """Has room for five more bytes."""

    room = 5

    def write(self, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        written = super().write(data[: self.room])
        self.room -= written
        return written


def test_a_row_that_does_not_fit_leaves_the_file_as_it_was(filled, monkeypatch):
    table, before = Table(filled, 3), filled.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(Path, "open", lambda path, mode, buffering: FullDisk(path, "a"))
        table.append({"round": 4, "loss": 0.5})
    assert filled.read_bytes() == before
    table.append({"round": 4, "loss": 0.5})
    assert filled.read_bytes() == before + b"4,0.5\n"


def test_a_cohort_may_be_large(tmp_path):
    clients = " ".join(map(str, range(40_000)))
    Table(tmp_path / "cohorts.csv", 0).append({"round": 1, "clients": clients})
    assert Table(tmp_path / "cohorts.csv", 1).rows == [{"round": "1", "clients": clients}]
