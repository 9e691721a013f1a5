"""The figure of accuracy against uplink bits."""

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from fedsign.report.figure import COLOURS, accuracy_against_uplink
from fedsign.report.runs import Run


def run(tmp_path, rounds, bits=100, column="test_accuracy", scale=1.0):
    table = {"round": rounds, "uplink_bits": [bits * t for t in rounds], "test_accuracy": None, "distance": None}
    return Run(tmp_path, {}, {}, pd.DataFrame(table | {column: [scale * t / (t + 1) for t in rounds]}))


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """``drawn(groups, target)``: the axes that were drawn and the path of the PNG."""
    kept = []
    subplots = plt.subplots

    def keep(*arguments, **options):
        figure, axes = subplots(*arguments, **options)
        kept.append(axes)
        return figure, axes

    monkeypatch.setattr(plt, "subplots", keep)

    def go(groups, target=None):
        path = tmp_path / "figure.png"
        accuracy_against_uplink(groups, target, path)
        return kept[-1], path

    return go


def curves(axes):
    return {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}


def test_a_png_is_written_and_the_figure_closed(drawn, tmp_path):
    before = plt.get_fignums()
    _, path = drawn({"FedAvg": [run(tmp_path, [1, 2, 3])]})
    assert path.read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == before


def test_accuracy_in_percent_stands_against_bits_on_a_log_axis(drawn, tmp_path):
    axes, _ = drawn({"FedAvg": [run(tmp_path, [1, 3], bits=640)], "FedSMU": [run(tmp_path, [1, 3], bits=20)]})
    assert axes.get_xscale() == "log" and axes.get_yscale() == "linear"
    assert "uplink bits" in axes.get_xlabel() and "accuracy (%)" in axes.get_ylabel()
    assert list(curves(axes)) == ["FedAvg", "FedSMU"]
    assert list(curves(axes)["FedSMU"].get_xdata()) == [20, 60]
    assert list(curves(axes)["FedSMU"].get_ydata()) == pytest.approx([50, 75])


def test_the_target_is_marked(drawn, tmp_path):
    axes, _ = drawn({"FedAvg": [run(tmp_path, [1, 2])]}, target=0.6)
    assert [60.0, 60.0] in [list(line.get_ydata()) for line in axes.get_lines()]
    assert "60 %" in [text.get_text() for text in axes.texts]


def test_seeds_are_one_curve_with_their_range(drawn, tmp_path):
    axes, _ = drawn({"FedAvg": [run(tmp_path, [1, 2]), run(tmp_path, [1, 2], scale=0.5)]})
    assert list(curves(axes)) == ["FedAvg"]
    assert list(curves(axes)["FedAvg"].get_ydata()) == pytest.approx([37.5, 50])
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices[:, 1]
    assert (corners.min(), corners.max()) == pytest.approx((25, 200 / 3))


def test_one_run_has_no_band(drawn, tmp_path):
    axes, _ = drawn({"FedAvg": [run(tmp_path, [1, 2])]})
    assert len(axes.collections) == 0


def test_seeds_of_different_length_are_drawn_over_the_rounds_they_share(drawn, tmp_path):
    axes, _ = drawn({"FedAvg": [run(tmp_path, [1, 2, 3]), run(tmp_path, [2, 3, 4])]})
    assert list(curves(axes)["FedAvg"].get_xdata()) == [200, 300]


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("target", [None, 0.5])
def test_a_run_of_one_row_is_drawn(drawn, tmp_path, seeds, target):
    axes, path = drawn({"FedAvg": [run(tmp_path, [5])] * seeds}, target)
    assert list(curves(axes)["FedAvg"].get_xdata()) == [500]
    assert path.exists()


def test_more_methods_than_colours_are_drawn(drawn, tmp_path):
    groups = {f"method {i}": [run(tmp_path, [1, 2])] for i in range(len(COLOURS) + 1)}
    axes, _ = drawn(groups)
    assert list(curves(axes)) == list(groups)


def test_the_consensus_problem_is_drawn_by_its_distance(drawn, tmp_path):
    axes, _ = drawn({"z": [run(tmp_path, [1, 2, 4], column="distance")]}, target=None)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_ylabel() == "distance to the optimum"
    assert list(curves(axes)["z"].get_ydata()) == pytest.approx([1 / 2, 2 / 3, 4 / 5])


def test_every_marker_lies_on_a_point_and_the_last_point_has_one(drawn, tmp_path):
    axes, _ = drawn({"FedAvg": [run(tmp_path, list(range(1, 201)))]})
    marks = curves(axes)["FedAvg"].get_markevery()
    assert len(marks) <= 8 and marks[0] == 0 and marks[-1] == 199
