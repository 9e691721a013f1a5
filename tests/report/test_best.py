"""The best setting of a grid."""

import pandas as pd
import pytest

from fedsign.errors import ConfigError
from fedsign.report.best import frame, page, picks

PARAMS = {"algorithm": "fedavg,fedsmu", "partition": "iid,one_label", "local.lr": "0.1,0.01", "seed": "0,1"}


@pytest.fixture
def item(toy):
    return toy.preset("grid", PARAMS, kind="table", rows=["partition.name", "method"], columns=["local.lr"])


@pytest.fixture
def runs(toy, item):
    """0.1 is better on the validation split, 0.01 on test data."""
    for lr, validation, test in ((0.1, [0.5, 0.8, 0.6], [0.1, 0.3, 0.9]), (0.01, [0.7, 0.5, 0.4], [0.95, 0.1, 0.1])):
        for seed in (0, 1):
            where = ("algorithm=fedsmu", "partition=iid", f"local.lr={lr}", f"seed={seed}", "dataset.validation=0.1")
            shifted = [value + 0.02 * seed for value in validation]
            toy.run(item, *where, test_accuracy=test, validation_accuracy=shifted)


def chosen(found):
    return {pick.keys: pick.chosen and pick.chosen.value("local.lr") for pick in found}


def test_the_best_on_the_validation_split_is_picked_with_its_test_accuracy_then(toy, item, runs):
    grid = toy.grid(item, "dataset.validation=0.1")
    found = picks(grid, "validation")
    assert chosen(found) == {
        ("iid", "FedAvg"): None, ("iid", "FedSMU"): 0.1, ("one_label", "FedAvg"): None, ("one_label", "FedSMU"): None,
    }  # fmt: skip
    pick = found[1] if found[1].chosen else next(p for p in found if p.chosen)
    assert pick.picked_by == pytest.approx([80, 82]) and pick.test == pytest.approx([30, 30])
    shown = page(grid, found, "validation")
    assert "Selected on the validation split" in shown
    assert "| IID | FedSMU | local.lr=0.1 | 81.00 ± 1.41 (2) | 30.00 ± 0.00 (2) | 2 of 2 |" in shown
    assert "| IID | FedAvg | not run |  |  | 0 of 2 |" in shown
    assert (
        "`fedsign -m +experiment=toy/grid algorithm=fedsmu dataset.validation=0.1 local.lr=0.1 partition=iid`" in shown
    )
    table = frame(grid, found).set_index("method")
    assert table["overrides"].tolist().count("") == 3
    assert pd.Series(table["n"]).sum() == 2


def test_on_test_data_another_is_picked_and_it_is_said(toy, item, runs):
    grid = toy.grid(item, "dataset.validation=0.1")
    found = picks(grid, "test")
    assert chosen(found)["iid", "FedSMU"] == 0.01
    shown = page(grid, found, "test")
    assert "Selected on test data" in shown and "validation accuracy" not in shown
    assert "| IID | FedSMU | local.lr=0.01 | 95.00 ± 0.00 (2) | 2 of 2 |" in shown


def test_without_a_validation_split_none_is_picked(toy, item):
    with pytest.raises(ConfigError, match=r"^dataset\.validation=0\.0: must be above 0 .*; select=test "):
        picks(toy.grid(item), "validation")


def test_another_way_to_select_is_refused(toy, item):
    with pytest.raises(ConfigError, match=r"^select=train: must be one of validation, test$"):
        picks(toy.grid(item), "train")


def test_a_key_that_is_tuned_is_no_setting(toy):
    item = toy.preset("rows", PARAMS, kind="table", rows=["method", "local.lr"], columns=["partition.name"])
    assert [pick.keys for pick in picks(toy.grid(item), "test")] == [("FedAvg",), ("FedSMU",)]
