"""CSV files that grow row by row."""

import csv

import pytest

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


@pytest.mark.parametrize(("keep", "left"), [(1, ["1"]), (2, ["1", "2"]), (3, ["1", "2", "3"]), (9, ["1", "2", "3"])])
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


@pytest.mark.parametrize("torn", ["4", "4,", "\n", "4,0.4,0.4\n4"])
def test_a_torn_last_line_does_no_harm(filled, torn):
    with filled.open("a") as file:
        file.write(torn)
    assert [row["round"] for row in Table(filled, 3).rows] == ["1", "2", "3"]


def test_a_table_that_is_not_there_is_empty(tmp_path):
    assert Table(tmp_path / "metrics.csv", 5).rows == []
