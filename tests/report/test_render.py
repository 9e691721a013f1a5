"""Tables in Markdown and LaTeX, and the page around them."""

import re

import pytest

from fedsign.report.cells import RULE, table_cells
from fedsign.report.render import escape, latex, layout, markdown

REFERENCE = """method,local.batch_size,metric,value,std
FedAvg,8,best_accuracy,84.0,0.5
FedAvg,32,best_accuracy,80,
FedSMU,8,best_accuracy,70.0,
"""


@pytest.fixture
def item(toy):
    name = toy.preset(
        "table",
        kind="table",
        rows=["method"],
        columns=["local.batch_size"],
        metrics=["best_accuracy"],
        title="Best & worst",
    )
    toy.reference(name, REFERENCE)
    return name


def lines(page):
    return [line for line in page.splitlines() if line.startswith("|")]


def test_a_cell_has_ours_the_papers_and_whether_they_agree(toy, item):
    for seed, best in ((0, 0.9), (1, 0.8)):
        toy.run(item, "algorithm=fedavg", "local.batch_size=8", f"seed={seed}", test_accuracy=[best, 0.1])
    toy.run(item, "algorithm=fedavg", "local.batch_size=32", "seed=0", test_accuracy=[0.7, 0.75])
    page = toy.report(item)
    assert lines(page) == [
        "| method | batch size 8 | batch size 32 |",
        "| --- | --- | --- |",
        "| FedAvg | 85.00 ± 7.07 (2) ✓<br>paper 84.0 ± 0.5 (+1.00) | 75.00 (1) ✗<br>paper 80 (-5.00) |",
        "| FedSMU | not run<br>paper 70.0 | not run |",
    ]
    assert page.startswith("# toy/table: Best & worst\n")
    assert "- runs: 3 of 8\n" in page
    assert RULE in page
    assert "The best test accuracy over the evaluated rounds, in per cent: mean ± standard deviation over seeds" in page
    for told in ("`fedsign -m +experiment=toy/table`", "commit: abc", "seeds: 0, 1", "hardware: a CPU", "6 s in all"):
        assert told in page


def test_several_metrics_are_rows_where_there_are_columns_and_else_columns(toy):
    rows = toy.preset("rows", kind="table", columns=["local.batch_size"], metrics=["best_accuracy", "rounds_to_0.5"])
    assert lines(toy.report(rows))[0] == "| method | metric | batch size 8 | batch size 32 |"
    params = {"algorithm": "fedavg,fedsmu", "seed": "0"}
    columns = toy.preset("columns", params, kind="table", metrics=["best_accuracy", "rounds_to_0.5"])
    toy.run(columns, "algorithm=fedavg", test_accuracy=[0.4, 0.45])
    assert lines(toy.report(columns)) == [
        "| method | best accuracy (%) | rounds to 50 % |",
        "| --- | --- | --- |",
        "| FedAvg | 45.00 (1) | not reached (1) |",
        "| FedSMU | not run | not run |",
    ]


def test_where_nothing_was_run_the_papers_numbers_are_shown(toy, item):
    page = toy.report(item)
    assert "- runs: none of 8: not run" in page
    assert "| FedAvg | not run<br>paper 84.0 ± 0.5 | not run<br>paper 80 |" in page
    assert [path.name for path in (toy.results / "toy").iterdir()] == ["table.md"]


def test_a_page_of_runs_made_elsewhere_is_kept(toy, item):
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", test_accuracy=[0.9])
    made = toy.report(item)
    for path in toy.runs.rglob("summary.json"):
        path.unlink()
    assert "none of 8" in toy.report(item)
    assert (toy.results / "toy" / "table.md").read_text() == made


def test_other_settings_than_the_papers_are_not_judged(toy, item):
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", "rounds=1", test_accuracy=[0.84])
    page = toy.report(item, "rounds=1")
    assert "84.00 (1) –<br>paper 84.0 ± 0.5 (+0.00)" in page
    assert "- changed from the paper's setting: rounds=1; agreement is not judged" in page
    assert "`fedsign -m +experiment=toy/table rounds=1`" in page


def test_other_seeds_are_told(toy, item):
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=5", test_accuracy=[0.84])
    assert "- runs: 1 of 8, 1 of them under other seeds\n" in toy.report(item)


def test_latex_has_a_line_for_the_paper_below_ours(toy, item):
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", test_accuracy=[0.84])
    toy.report(item)
    text = (toy.results / "toy" / "table.tex").read_text()
    assert r"FedAvg & 84.00 (1) $\checkmark$ & not run \\" + "\n" + r"paper & 84.0 $\pm$ 0.5 & 80 \\" in text
    assert r"\begin{tabular}{lrr}" in text and r"\toprule" in text
    assert r"\caption{Best \& worst. The best test" in text
    body = text.split("\n", 1)[1]
    assert not re.search(r"(?<!\\)[%#_]", body)
    assert body.isascii()


def test_latex_of_a_greek_grid(toy):
    item = toy.preset("greek", {"algorithm.sigma": "0.1,1", "seed": "0", "algorithm": "zsign"}, kind="table",
                      columns=["algorithm.sigma"])  # fmt: skip
    grid = toy.grid(item)
    text = latex(layout(table_cells(grid, []), ["method"], ["algorithm.sigma"]), "a_b")
    assert r"$\sigma$ = 0.1" in text and r"a\_b" in text and "paper" not in text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("a_b & 5 %", r"a\_b \& 5 \%"), ("{x}", r"\{x\}"), ("~^", r"\textasciitilde{}\textasciicircum{}"),
     ("\\", r"\textbackslash{}"), ("γ₁ ± ∞", r"$\gamma$$_1$ $\pm$ $\infty$")],
)  # fmt: skip
def test_what_latex_reads_otherwise_is_escaped(text, escaped):
    assert escape(text) == escaped


def test_a_bar_in_a_cell_does_not_end_it():
    assert markdown(["a"], [["x|y"]]).splitlines()[-1] == "| x\\|y |"
