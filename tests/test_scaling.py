"""The table of what passes between ranks is what its script computes."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
METHODS = {path.stem for path in (ROOT / "conf/algorithm").glob("*.yaml")}


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield __import__("scaling")
    sys.modules.pop("scaling", None)


def rows():
    lines = (ROOT / "docs/scaling.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    return {row[0].strip("`"): row for row in cells if row[0].strip("`") in METHODS}


def test_every_method_is_in_the_table():
    assert set(rows()) == METHODS


@pytest.mark.parametrize("method", ["fedavg", "fedsmu", "scaffold", "dlion"])
def test_a_row_is_what_the_script_computes(scaling, method):
    assert rows()[method] == scaling.row(method)
