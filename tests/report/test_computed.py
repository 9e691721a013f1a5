"""Items that need no runs."""

import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from fedsign.errors import DataError

PARAMS = {"model": "mlp,lenet_small", "algorithm": "fedavg"}
REFERENCE = "model.name,metric,value\nmlp,size,100\nlenet_small,size,300\n"


@pytest.fixture
def module(monkeypatch):
    """A module that computes a size for every config, and draws."""

    def table(configs):
        return pd.DataFrame({"model.name": [c["model"]["name"] for c in configs], "size": [105.0, 200.0]})

    made = SimpleNamespace(table=table, draw=lambda table, path: path.write_bytes(b"drawn"))
    monkeypatch.setitem(sys.modules, "fedsign.report.forward_cost", made)
    return made


def test_the_table_is_beside_the_papers_numbers(toy, module):
    item = toy.preset("cost", PARAMS, kind="forward_cost", title="Cost")
    toy.reference(item, REFERENCE)
    page = toy.report(item)
    assert "# toy/cost: Cost" in page and "`fedsign-report toy/cost`" in page
    assert "| mlp | 105 ✓<br>paper 100 |" in page
    assert "| lenet_small | 200 ✗<br>paper 300 |" in page
    assert "![Cost](cost.png)" in page
    folder = toy.results / "toy"
    assert (folder / "cost.png").read_bytes() == b"drawn"
    assert list(pd.read_csv(folder / "cost.csv")["size"]) == [105, 200]
    assert (folder / "cost.md").read_text() == page


def test_a_long_table_is_in_the_file_alone(toy, module):
    item = toy.preset("long", PARAMS, kind="forward_cost")
    module.table = lambda configs: pd.DataFrame({"x": range(60)})
    assert "| x |" not in toy.report(item)
    assert len(pd.read_csv(toy.results / "toy" / "long.csv")) == 60


@pytest.mark.parametrize("row", ["vgg7,size,1", "mlp,weight,1", ",size,1"])
def test_a_number_without_a_row_is_an_error(toy, module, row):
    item = toy.preset("cost", PARAMS, kind="forward_cost", title="Cost")
    toy.reference(item, f"model.name,metric,value\n{row}\n")
    with pytest.raises(DataError, match=r"toy/cost\.csv, line 2: "):
        toy.report(item)
