"""Our numbers beside the paper's."""

import dataclasses
import math
from pathlib import Path

import pandas as pd
import pytest

from fedsign import cli, presets
from fedsign.errors import DataError
from fedsign.report import reference
from fedsign.report.cells import AGREES, DIFFERS, UNJUDGED, Cell, table_cells, text_cells
from fedsign.report.computed import KINDS
from fedsign.report.grid import Index, find
from fedsign.report.metrics import metric
from fedsign.report.reference import Published

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results" / "reference"


def cell(values, paper, std=math.nan, name="best_accuracy"):
    return Cell({}, [], metric(name), values, Published("", {}, name, paper, std, f"{paper}", ""))


@pytest.mark.parametrize(
    ("found", "mark"),
    [
        (cell([91.0], 92.0), AGREES),  # a point
        (cell([90.9], 92.0), DIFFERS),
        (cell([93.0], 92.0), AGREES),
        (cell([87.0, 89.0], 92.0, 1.6), AGREES),  # 4 points, 2 sqrt(2 + 2.56)
        (cell([87.0, 89.0], 92.0, 1.3), DIFFERS),
        (cell([100.0], 110, name="rounds_to_0.5"), AGREES),  # a tenth
        (cell([98.0], 110, name="rounds_to_0.5"), DIFFERS),
        (cell([math.nan], 110, name="rounds_to_0.5"), DIFFERS),
        (cell([math.nan], math.nan, name="rounds_to_0.5"), AGREES),
        (cell([math.nan, 50.0], math.nan, name="rounds_to_0.5"), DIFFERS),
        (cell([50.0], math.nan, name="rounds_to_0.5"), DIFFERS),
        (cell([], 92.0), UNJUDGED),
        (Cell({}, [], metric("best_accuracy"), [92.0]), UNJUDGED),
    ],
)
def test_agreement_is_a_point_a_tenth_or_two_deviations(found, mark):
    assert found.mark == mark


def test_mean_deviation_and_difference():
    found = cell([90.0, 92.0], 92.5)
    assert (found.ours, found.std, found.n, found.difference) == (91, pytest.approx(math.sqrt(2)), 2, -1.5)
    assert found.ours_text == "91.00 ± 1.41 (2)"
    assert found.difference_text == "-1.50"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "not run"),
        ([math.nan], "not reached (1)"),
        ([math.nan, 5.0, 6.0], "not reached by 1 of 3"),
        ([5.0], "5 (1)"),
    ],
)
def test_why_there_is_no_number_is_said(values, text):
    assert cell(values, 5.0, name="rounds_to_0.5").ours_text == text


@pytest.fixture
def item(toy):
    return toy.preset("table", kind="table", rows=["method"], columns=["local.batch_size"], metrics=["best_accuracy"])


def read(toy, item, text):
    return reference.read(toy.reference(item, text))


def test_a_number_of_the_paper_finds_its_cell(toy, item):
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", test_accuracy=[0.5, 0.9, 0.8])
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=1", test_accuracy=[0.5, 0.6, 0.8])
    rows = read(toy, item, "method,local.batch_size,metric,value,std\nFedAvg,8.0,best_accuracy,84.0,0.5\n")
    found = {tuple(cell.keys.values()): cell for cell in table_cells(toy.grid(item), rows)}
    assert list(found) == [("FedAvg", 8), ("FedAvg", 32), ("FedSMU", 8), ("FedSMU", 32)]
    one = found["FedAvg", 8]
    assert one.values == pytest.approx([90, 80])
    assert (one.paper.value, one.paper.std, one.paper_text) == (84, 0.5, "84.0 ± 0.5")
    assert found["FedAvg", 32].paper is None and found["FedAvg", 32].ours_text == "not run"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("FedAVG,8,best_accuracy,84", r"line 2: no job of toy/table has method=FedAVG, local\.batch_size=8"),
        ("FedAvg,9,best_accuracy,84", "line 2: no job"),
        ("FedAvg,,best_accuracy,84", "line 2: belongs to 2 cells"),
        ("FedAvg,8,final_accuracy,84", "line 2: final_accuracy is not among report.metrics: best_accuracy"),
    ],
)
def test_a_number_without_a_cell_is_an_error_that_names_file_and_row(toy, item, row, message):
    rows = read(toy, item, f"method,local.batch_size,metric,value\n{row}\n")
    with pytest.raises(DataError, match=rf"toy/table\.csv, {message}"):
        table_cells(toy.grid(item), rows)


def test_two_numbers_for_a_cell_are_an_error(toy, item):
    row = "FedAvg,8,best_accuracy,84\n"
    with pytest.raises(DataError, match=r"line 3: the same cell as .*line 2"):
        table_cells(toy.grid(item), read(toy, item, f"method,local.batch_size,metric,value\n{row}{row}"))


def test_in_a_part_of_the_grid_the_other_numbers_are_left_out(toy, item):
    rows = read(toy, item, "method,local.batch_size,metric,value\nFedAvg,8,best_accuracy,84\n")
    assert all(cell.paper is None for cell in table_cells(toy.grid(item, "algorithm=fedsmu"), rows))


def test_a_number_that_its_statement_explains_needs_no_job(toy, item):
    rows = read(toy, item, "method,metric,value,statement\nOther,best_accuracy,84,not run here\n,,,All is well\n")
    assert all(cell.paper is None for cell in table_cells(toy.grid(item), rows))
    page = toy.report(item)
    assert "- Other: best_accuracy 84; not run here\n- All is well" in page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row,paper\nx,1\n", "has no column metric, value"),
        ("method,metric,value\nFedAvg,best_accuracy,abc\n", "line 2: abc is not a number"),
        ("method,metric,value\nFedAvg,,\n", "line 2: has neither a metric nor a statement"),
        ("method,metric,value\nFedAvg,best_accuracy\n", "line 2: has another number of cells"),
        ("method,metric,value\nFedAvg,best_accuracy,1,2\n", "line 2: has another number of cells"),
    ],
)
def test_a_damaged_file_is_named(toy, item, text, message):
    with pytest.raises(DataError, match=rf"toy/table\.csv.*{message}"):
        read(toy, item, text)


def test_numbers_of_a_text_belong_to_one_setting(toy, item):
    rows = read(toy, item, "method,local.batch_size,metric,value\nFedAvg,8,final_accuracy,84\n")
    (found,) = text_cells(toy.grid(item), rows)
    assert found.keys == {"method": "FedAvg", "local.batch_size": 8}
    rows = read(toy, item, "method,metric,value\nFedAvg,final_accuracy,84\n")
    with pytest.raises(DataError, match=r"line 2: .*local\.batch_size"):
        text_cells(toy.grid(item), rows)


def test_the_loss_against_fedavg_is_summed_over_settings_seed_by_seed(toy):
    params = {"method": "a,b", "local.batch_size": "8,32", "seed": "0,1"}
    folder = toy.conf / "method"
    for name, algorithm in (("a", "fedavg"), ("b", "fedsmu")):
        (folder / f"{name}.yaml").write_text(f"# @package _global_\ndefaults:\n  - override /algorithm: {algorithm}\n")
    path = toy.conf / "experiment" / "toy" / "loss.yaml"
    item = toy.preset("loss", params, kind="table", metrics=["accuracy_loss"])
    path.write_text(path.read_text().replace("defaults:", "defaults:\n  - /method: a"))
    best = {("a", 8): (0.9, 0.8), ("a", 32): (0.7, 0.7), ("b", 8): (0.85, 0.7), ("b", 32): (0.6,)}
    for (name, batch), values in best.items():
        for seed, value in enumerate(values):
            toy.run(item, f"method={name}", f"local.batch_size={batch}", f"seed={seed}", test_accuracy=[value])
    found = {cell.keys["method"]: cell.values for cell in table_cells(toy.grid(item), [])}
    assert found["FedSMU"] == [pytest.approx(-5 - 10)]  # of seed 1 one run is missing
    assert found["FedAvg"] == [0, 0]


def references():
    return sorted(path.relative_to(REFERENCE).with_suffix("").as_posix() for path in REFERENCE.rglob("*.csv"))


@pytest.mark.parametrize("file", references())
def test_every_number_of_the_papers_has_its_cell(file):
    cli.register_resolvers()
    path = REFERENCE / f"{file}.csv"
    homes = [item for item in presets.names() if reference.path_of(item, ROOT / "results") == path]
    assert homes, f"{path} belongs to no preset"
    for item in homes:
        rows = reference.read(path)
        if not any(row.metric for row in rows):
            continue
        grid = dataclasses.replace(find(item, ["seed=0"], Index()), overrides=())
        if grid.report["kind"] not in KINDS:
            (table_cells if grid.report["kind"] == "table" else text_cells)(grid, rows)


def test_the_long_form_has_all_columns(toy, item):
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", test_accuracy=[0.5, 0.9, 0.8])
    toy.reference(item, "method,local.batch_size,metric,value\nFedAvg,8,best_accuracy,84.0\n")
    toy.report(item)
    table = pd.read_csv(toy.results / "toy" / "table.csv")
    assert list(table.columns) == [
        "method", "local.batch_size", "metric", "ours", "std", "n", "paper", "paper_std", "difference", "agreement",
    ]  # fmt: skip
    assert len(table) == 4
    first = table.iloc[0]
    assert (first["ours"], first["n"], first["paper"], first["agreement"]) == (90, 1, 84, "differs")
    assert first["difference"] == pytest.approx(6)
