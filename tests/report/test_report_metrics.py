"""What is read off a run."""

import math

import pandas as pd
import pytest

from fedsign.errors import ConfigError
from fedsign.report.metrics import metric
from fedsign.report.runs import Run

NAN = math.nan


@pytest.fixture
def run(tmp_path):
    metrics = {
        "round": [10, 20, 30, 40],
        "uplink_bits": [1, 2, 3, 4],
        "test_accuracy": [0.2, 0.6, 0.5, NAN],
        "binary_accuracy": [0.1, 0.3, 0.4, 0.35],
        "global_train_accuracy": [0.3, 0.6, 0.61, 0.62],
        "validation_accuracy": [0.25, 0.5, 0.7, 0.6],
        "ternary_accuracy": [NAN] * 4,
        "mu_index": [0.5, 0.7, NAN, 0.6],
        "objective": [3.0, 2.0, 1.0, 0.5],
        "distance": [4.0, 3.0, 2.0, 1.5],
    }
    return Run(tmp_path, {}, {}, pd.DataFrame(metrics))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("best_accuracy", 60),
        ("final_accuracy", 50),
        ("best_binary_accuracy", 40),
        ("final_binary_accuracy", 35),
        ("best_validation_accuracy", 70),
        ("rounds_to_0.5", 20),
        ("bits_to_0.2", 1),
        ("rounds_to_0.61", NAN),
        ("accuracy_at_round_30", 50),
        ("accuracy_at_train_0.6", 55),
        ("accuracy_at_train_0.8", NAN),
        ("mean_mu_index", 0.6),
        ("final_objective", 0.5),
        ("final_distance", 1.5),
    ],
)
def test_a_metric_is_what_its_name_says(run, name, value):
    assert metric(name).of(run) == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("name", ["best_ternary_accuracy", "final_sampled_accuracy", "accuracy_at_round_35"])
def test_what_a_run_did_not_measure_is_none(run, name):
    assert metric(name).of(run) is None


@pytest.mark.parametrize("name", ["accuracy", "rounds_to_", "rounds_to_x", "best", "worst_accuracy", ""])
def test_an_unknown_metric_is_refused(name):
    with pytest.raises(ConfigError, match="no such metric; allowed: best_accuracy, "):
        metric(name)


@pytest.mark.parametrize(
    ("name", "value", "std", "text"),
    [
        ("best_accuracy", 92.126, 0.1, "92.13 ± 0.10"),
        ("best_accuracy", 92.126, NAN, "92.13"),
        ("rounds_to_0.5", 1746, NAN, "1746"),
        ("rounds_to_0.5", 20.5, 1.5, "20.5 ± 1.5"),
        ("bits_to_0.5", 2.5e9, NAN, "2.5 Gbit"),
        ("final_distance", 0.001234567, NAN, "0.001235"),
    ],
)
def test_a_value_is_written_with_its_unit(name, value, std, text):
    assert metric(name).text(value, std) == text


def test_the_band_is_named_in_the_caption():
    assert "training accuracy of 65 to 66 %" in metric("accuracy_at_train_0.65").words
