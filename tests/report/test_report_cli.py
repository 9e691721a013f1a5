"""The command ``fedsign-report``."""

import sys

import pytest

from fedsign.report.cli import main


@pytest.fixture
def command(toy, monkeypatch, capsys):
    """``command("toy/table", ...)``: exit status, standard output and error."""

    def go(*arguments):
        folders = ["--runs", str(toy.runs), "--results", str(toy.results)]
        monkeypatch.setattr(sys, "argv", ["fedsign-report", *arguments, *folders])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return go


@pytest.fixture
def item(toy):
    return toy.preset("table", kind="table", columns=["local.batch_size"])


def test_an_item_is_printed_and_written(toy, command, item):
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", test_accuracy=[0.9])
    status, out, _ = command(item)
    assert status == 0
    assert "90.00 (1)" in out and out.rstrip().endswith(f"written  {toy.results / 'toy' / 'table.*'}")
    assert sorted(path.name for path in (toy.results / "toy").iterdir()) == ["table.csv", "table.md", "table.tex"]


def test_where_nothing_was_run_the_command_that_does_is_told(command, item):
    status, out, _ = command(item, "rounds=2")
    assert status == 0
    assert out.rstrip().endswith("made by: fedsign -m +experiment=toy/table rounds=2")


def test_runs_may_be_in_several_folders(toy, command, item):
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", test_accuracy=[0.9])
    status, out, _ = command(item, "--runs", str(toy.runs / "nowhere"))
    assert status == 0 and "runs: 1 of 8" in out


def test_the_best_of_a_grid(toy, command, item):
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", test_accuracy=[0.9])
    status, out, _ = command("--best", item, "select=test")
    assert status == 0 and "Selected on test data" in out
    assert sorted(path.name for path in (toy.results / "toy").iterdir()) == ["table_best.csv", "table_best.md"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy/tabel"], "toy/tabel: no such preset (did you mean 'toy/table'?)"),
        (["toy/table", "roundz=3"], "roundz: no such key (did you mean 'rounds'?)"),
        (["toy/table", "rounds"], "rounds: must have the form key=value"),
        (["toy/table", "--best"], "dataset.validation=0.0: must be above 0"),
        (["toy/kind"], "report.kind=pie: must be one of comparison, table, curves, points, forward_cost, "),
        (["toy/metric"], "report.metrics=worst: no such metric"),
        ([], "name one item, or --all"),
        (["toy/table", "--all"], "name one item, or --all"),
    ],
)
def test_a_mistake_is_one_line(toy, command, item, arguments, message):
    toy.preset("kind", kind="pie")
    toy.preset("metric", kind="table", columns=["local.batch_size"], metrics=["worst"])
    status, _, error = command(*arguments)
    assert status == 2
    assert f"fedsign-report: error: {message}" in error
    assert "Traceback" not in error


def test_all_writes_what_has_runs(toy, command, item, monkeypatch):
    monkeypatch.setattr("fedsign.presets.names", lambda: [item, "toy/other"])
    toy.preset("other", kind="table", columns=["local.batch_size"], metrics=["final_accuracy"])
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", "rounds=2", test_accuracy=[0.9])
    assert command("--all") == (0, "", "")
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", test_accuracy=[0.9])
    status, out, _ = command("--all")
    assert (status, out) == (0, "toy/table: 1 of 8 runs\ntoy/other: 1 of 8 runs\n")
    assert (toy.results / "toy" / "other.md").exists()


def test_all_goes_on_after_an_item_that_fails(toy, command, item, monkeypatch):
    monkeypatch.setattr("fedsign.presets.names", lambda: [item, "toy/other"])
    toy.preset("other", kind="table", columns=["local.batch_size"], metrics=["final_accuracy"])
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", test_accuracy=[0.9])
    toy.reference(item, "method,metric,value\nNobody,best_accuracy,1\n")
    status, out, error = command("--all")
    assert status == 1 and "toy/other: 1 of 8 runs" in out
    assert "toy/table: " in error and "line 2: no job of toy/table has method=Nobody" in error


def test_a_comparison_is_what_a_sweep_shows(toy, command):
    item = toy.preset("compared", {"algorithm": "fedavg,fedsmu", "seed": "0"})
    status, out, _ = command(item)
    assert status == 0 and "none of 2: not run" in out
