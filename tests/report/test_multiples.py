"""Curves and points: what is drawn, and what is said not to have been run."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from fedsign.errors import ConfigError
from fedsign.report import items, lines, multiples


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn."""
    kept = []
    draw = multiples.draw

    def keep(*arguments, **options):
        kept.append(draw(*arguments, **options))
        return kept[-1]

    monkeypatch.setattr(items.multiples, "draw", keep)
    return kept


def drawn(axes):
    return [line for line in axes.get_lines() if len(line.get_xdata())]


def written(toy, name):
    folder = toy.results / "toy"
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    return pd.read_csv(folder / f"{name}.csv")


@pytest.fixture
def item(toy):
    return toy.preset("curves", kind="curves", curves=["method"], panels=["local.batch_size"])


def test_a_panel_for_every_value_and_a_curve_for_every_method(toy, item, figures):
    for seed, shift in ((0, 0.0), (1, 0.1)):
        where = ("local.batch_size=8", f"seed={seed}")
        toy.run(item, "algorithm=fedavg", *where, test_accuracy=[0.2 + shift, 0.4, 0.6])
        toy.run(item, "algorithm=fedsmu", *where, test_accuracy=[0.1, 0.2, 0.3])
    toy.run(item, "algorithm=fedavg", "local.batch_size=32", "seed=0", test_accuracy=[0.5, 0.5, 0.5])
    before = plt.get_fignums()
    page = toy.report(item)
    assert plt.get_fignums() == before
    (figure,) = figures
    left, right = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["batch size 8", "batch size 32"]
    assert [len(drawn(axes)) for axes in figure.axes] == [2, 1]
    assert list(drawn(left)[0].get_xdata()) == [1, 2, 3]
    assert list(drawn(left)[0].get_ydata()) == pytest.approx([25, 40, 60])
    corners = left.collections[0].get_paths()[0].vertices[:, 1]
    assert corners.max() == pytest.approx(60) and corners.min() == pytest.approx(25 - np.std([20, 30], ddof=1))
    assert len(right.collections) == 0
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["FedAvg", "FedSMU"]
    assert [text.get_text() for text in right.texts] == ["not run: FedSMU"]
    assert "Not run: FedSMU (batch size 32)." in page
    assert "![toy/curves](curves.png)" in page
    table = written(toy, "curves")
    assert list(table.columns) == ["panel", "curve", "round", "test_accuracy", "std", "n"]
    assert len(table) == 9


def test_what_was_run_nowhere_is_named_in_the_legend(toy, item, figures):
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", test_accuracy=[0.2])
    toy.report(item)
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["FedAvg", "FedSMU (not run)"]


def test_without_runs_there_is_no_figure(toy, item, figures):
    page = toy.report(item)
    assert figures == [] and "none of 8: not run" in page
    assert [path.name for path in (toy.results / "toy").iterdir()] == ["curves.md"]


@pytest.mark.parametrize(
    ("x", "along"),
    [("uplink_bits", [100, 200]), ("uplink_bits_formula", [90, 180]), ("total_bits", [200, 400])],
)
def test_curves_may_stand_against_bits(toy, figures, x, along):
    item = toy.preset(f"bits_{x}", kind="curves", x=x, panels=["local.batch_size"], scales="log-linear")
    columns = {"uplink_bits_formula": [90, 180], "downlink_bits": [1000, 2000], "test_accuracy": [0.2, 0.3]}
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", **columns)
    toy.report(item)
    axes = figures[0].axes[0]
    assert axes.get_xscale() == "log"
    assert list(drawn(axes)[0].get_xdata()) == along


def test_an_unknown_x_is_refused(toy):
    item = toy.preset("nowhere", kind="curves", x="bits", panels=["local.batch_size"])
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", test_accuracy=[0.1])
    with pytest.raises(ConfigError, match=r"report\.x=bits: must be a column of metrics\.csv or total_bits"):
        toy.report(item)


def test_curves_that_mix_settings_are_refused(toy):
    with pytest.raises(ConfigError, match=r"do not tell apart what differs in local\.batch_size"):
        toy.report(toy.preset("mixed", kind="curves"))


def test_other_columns_are_drawn_as_they_are(toy, figures):
    item = toy.preset("loss", kind="curves", y="distance", panels=["local.batch_size"], scales="linear-log")
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", distance=[10.0, 1.0, 0.0])
    toy.report(item)
    axes = figures[0].axes[0]
    assert axes.get_yscale() == "log"
    assert list(drawn(axes)[0].get_ydata()) == [10, 1, 0]


def test_a_short_logarithmic_axis_has_ticks_between_the_powers_of_ten(toy, figures):
    item = toy.preset("short", kind="curves", y="distance", panels=["local.batch_size"], scales="linear-log")
    toy.run(item, "algorithm=fedavg", "local.batch_size=8", "seed=0", distance=[3.0, 1.0, 0.3])
    toy.report(item)
    figures[0].canvas.draw()
    axes = figures[0].axes[0]
    low, high = axes.get_ylim()
    labels = [tick.label1.get_text() for tick in axes.yaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert labels == ["0.5", "1", "2"]


def test_with_two_keys_a_row_of_panels_is_a_value_of_the_first(toy, figures):
    params = {"rounds": "1,2", "local.batch_size": "8,32,64", "seed": "0"}
    item = toy.preset("two", params, kind="curves", panels=["local.batch_size", "rounds"])
    toy.run(item, "local.batch_size=8", "rounds=1", test_accuracy=[0.1])
    toy.report(item)
    figure = figures[0]
    assert [axes.get_title() for axes in figure.axes] == [
        f"batch size {batch}, {rounds} rounds" for batch in (8, 32, 64) for rounds in (1, 2)
    ]
    assert figure.axes[0].get_gridspec().ncols == 2


def test_ordered_values_have_ordered_colours(toy, figures):
    params = {"algorithm": "zsign", "algorithm.sigma": "1,0,10,0.1", "seed": "0"}
    item = toy.preset("ordered", params, kind="curves", curves=["algorithm.sigma"])
    for sigma in (0, 0.1, 1, 10):
        toy.run(item, "algorithm=zsign", f"algorithm.sigma={sigma}", test_accuracy=[0.1, 0.2])
    toy.report(item)
    colours = {line.get_label(): line.get_color() for line in figures[0].legends[0].get_lines()}
    green = [colours[f"σ = {sigma}"][1] for sigma in ("0", "0.1", "1", "10")]
    assert green == sorted(green)


@pytest.fixture
def points(toy):
    params = {"algorithm": "fedavg,fedsmu", "local.batch_size": "8,32", "seed": "0,1"}
    return toy.preset(
        "points", params, kind="points", curves=["method"], x="local.batch_size", metrics=["best_accuracy"]
    )


def test_points_stand_against_a_key_with_error_bars(toy, points, figures):
    for seed, best in ((0, 0.5), (1, 0.7)):
        toy.run(points, "algorithm=fedavg", "local.batch_size=8", f"seed={seed}", test_accuracy=[0.1, best])
    toy.run(points, "algorithm=fedavg", "local.batch_size=32", "seed=0", test_accuracy=[0.9, 0.1])
    page = toy.report(points)
    (axes,) = figures[0].axes
    line = drawn(axes)[0]
    assert list(line.get_xdata()) == [8, 32] and list(line.get_ydata()) == pytest.approx([60, 90])
    table = written(toy, "points")
    assert list(table["n"]) == [2, 1] and table["std"][0] == pytest.approx(np.std([50, 70], ddof=1))
    assert figures[0]._supxlabel.get_text() == "batch size"
    assert "Not run: FedSMU." in page
    assert "The best test accuracy over the evaluated rounds" in page


def test_points_may_stand_against_names(toy, figures):
    params = {"algorithm": "fedavg,fedsmu", "partition": "iid,one_label", "seed": "0"}
    item = toy.preset("names", params, kind="points", x="partition.name", scales="log-linear")
    for partition in ("iid", "one_label"):
        toy.run(item, "algorithm=fedavg", f"partition={partition}", test_accuracy=[0.5])
    toy.report(item)
    figure = figures[0]
    figure.canvas.draw()
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["IID", "one label a client"]


def test_zero_stays_on_a_logarithmic_axis(toy, figures):
    params = {"algorithm": "zsign", "algorithm.sigma": "0,0.1,1", "seed": "0"}
    item = toy.preset("zero", params, kind="points", x="algorithm.sigma", scales="log-linear")
    for sigma in (0, 0.1, 1):
        toy.run(item, "algorithm=zsign", f"algorithm.sigma={sigma}", test_accuracy=[0.5])
    toy.report(item)
    assert figures[0].axes[0].get_xscale() == "symlog"


@pytest.mark.parametrize(("panels", "across"), [(1, 1), (2, 2), (4, 4), (5, 3), (6, 3), (8, 4), (9, 3), (12, 4)])
def test_rows_of_panels_are_as_even_as_they_can_be(panels, across):
    assert multiples._across(panels) == across


def test_twelve_panels_are_drawn_with_one_legend(tmp_path):
    x = np.arange(1.0, 6.0)
    one = np.ones(5)
    all_lines = [lines.Line(f"panel {i}", f"method {k}", None, x, k * x, one, one) for i in range(12) for k in range(9)]
    figure = multiples.draw(all_lines, "round", "y", "linear-linear", tmp_path / "twelve.png")
    assert len(figure.axes) == 12 and len(figure.legends) == 1
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert not any(box.overlaps(axes.get_tightbbox()) for axes in figure.axes)
    looks = {(str(h.get_color()), h.get_marker(), str(h.get_linestyle())) for h in figure.legends[0].get_lines()}
    assert len(looks) == 9
