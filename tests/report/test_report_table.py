"""The table of a comparison: the target, bits to it, the ratio to FedAvg, and seeds."""

import math

import pandas as pd
import pytest

from fedsign.report.runs import Run
from fedsign.report.table import comparison, readable, target_accuracy


def run(tmp_path, algorithm, accuracies, bits=100, target=None):
    """A run of two clients and 10 parameters; every round costs `bits`."""
    rounds = range(1, len(accuracies) + 1)
    metrics = pd.DataFrame({"round": rounds, "uplink_bits": [bits * t for t in rounds], "test_accuracy": accuracies})
    summary = {
        "final_accuracy": accuracies[-1],
        "best_accuracy": max(accuracies),
        "uplink_bits": bits * len(accuracies),
        "rounds": len(accuracies),
        "cohort": 2,
        "parameters": 10,
    }
    return Run(tmp_path, {"algorithm.name": algorithm, "report.target_accuracy": target}, summary, metrics)


@pytest.fixture
def two(tmp_path):
    return {
        "FedAvg": [run(tmp_path, "fedavg", [0.4, 0.5, 0.8, 0.7], bits=640)],
        "FedSMU": [run(tmp_path, "fedsmu", [0.2, 0.3, 0.5, 0.6], bits=20)],
    }


def test_the_target_of_the_config_comes_first(tmp_path, two):
    assert target_accuracy({**two, "third": [run(tmp_path, "zsign", [0.9], target=0.55)]}) == 0.55


def test_the_target_is_95_percent_of_the_best_of_fedavg(two):
    assert target_accuracy(two) == pytest.approx(0.76)


def test_the_target_is_rounded_down_so_that_fedavg_reaches_it(tmp_path):
    found = target_accuracy({"FedAvg": [run(tmp_path, "fedavg", [0.8123])], "z": [run(tmp_path, "zsign", [0.9])]})
    assert found == pytest.approx(0.771)


def test_without_fedavg_the_target_is_95_percent_of_the_best_of_all(tmp_path):
    found = target_accuracy({"a": [run(tmp_path, "zsign", [0.4])], "b": [run(tmp_path, "fedsmu", [0.6])]})
    assert found == pytest.approx(0.57)


def test_a_single_method_has_no_target_unless_it_is_given(tmp_path):
    assert target_accuracy({"FedAvg": [run(tmp_path, "fedavg", [0.8])]}) is None
    assert target_accuracy({"FedAvg": [run(tmp_path, "fedavg", [0.8], target=0.5)]}) == 0.5


def test_bits_are_counted_up_to_the_first_round_at_the_target(two):
    table = comparison(two, 0.5)
    assert table.loc["FedAvg", "bits_to_target"] == 2 * 640
    assert table.loc["FedSMU", "bits_to_target"] == 3 * 20


def test_the_ratio_is_how_many_times_fewer_bits_than_fedavg(two):
    table = comparison(two, 0.5)
    assert table.loc["FedAvg", "ratio"] == 1
    assert table.loc["FedSMU", "ratio"] == pytest.approx(1280 / 60)


def test_a_target_that_is_missed_has_no_number(two):
    table = comparison(two, 0.7)
    assert math.isnan(table.loc["FedSMU", "bits_to_target"]) and math.isnan(table.loc["FedSMU", "ratio"])
    assert table.loc["FedAvg", "bits_to_target"] == 3 * 640


def test_there_is_no_ratio_without_fedavg(two):
    assert "ratio" not in comparison({"FedSMU": two["FedSMU"]}, 0.5)


def test_there_are_no_bits_to_a_target_without_a_target(two):
    table = comparison(two, None)
    assert "bits_to_target" not in table and "ratio" not in table


def test_of_several_settings_of_fedavg_the_cheapest_is_the_baseline(tmp_path, two):
    table = comparison({**two, "FedAvg lr": [run(tmp_path, "fedavg", [0.6], bits=640)]}, 0.5)
    assert table.loc["FedSMU", "ratio"] == pytest.approx(640 / 60)


def test_accuracies_and_totals_are_those_of_the_summary(two):
    table = comparison(two, 0.5)
    assert list(table["final_accuracy"]) == [0.7, 0.6] and list(table["best_accuracy"]) == [0.8, 0.6]
    assert list(table["uplink_bits"]) == [2560, 80]
    assert table.index.name == "method"


def test_bits_per_parameter_are_those_of_a_client_in_a_round(two):
    assert list(comparison(two, 0.5)["bits_per_parameter"]) == [640 / (2 * 10), 20 / (2 * 10)]


@pytest.fixture
def seeds(tmp_path):
    return {"FedAvg": [run(tmp_path, "fedavg", [0.5, 0.6]), run(tmp_path, "fedavg", [0.3, 0.7])]}


def test_seeds_are_averaged_with_their_sample_deviation(seeds):
    row = comparison(seeds, 0.5).loc["FedAvg"]
    assert row["runs"] == 2
    assert row["final_accuracy"] == pytest.approx(0.65)
    assert row["final_accuracy_std"] == pytest.approx(0.1 / math.sqrt(2))
    assert row["bits_to_target"] == 150


def test_one_run_has_no_deviation(two):
    assert comparison(two, 0.5)["best_accuracy_std"].isna().all()


def test_a_group_in_which_one_seed_misses_the_target_has_no_number(seeds):
    assert math.isnan(comparison(seeds, 0.65).loc["FedAvg", "bits_to_target"])


def test_a_person_reads_percent_units_and_words(two):
    shown = readable(comparison(two, 0.7), 0.7)
    assert list(shown["final accuracy"]) == ["70.00 %", "60.00 %"]
    assert list(shown["total uplink"]) == ["2.56 kbit", "80 bit"]
    assert list(shown["uplink to 70 %"]) == ["1.92 kbit", "not reached"]
    assert list(shown["ratio to FedAvg"]) == ["1.0x", ""]
    assert list(shown["bits/parameter"]) == ["32.000", "1.000"]
    assert "seeds" not in shown


def test_a_person_reads_the_seeds_and_the_deviation(seeds):
    shown = readable(comparison(seeds, None), None)
    assert list(shown["seeds"]) == ["2"]
    assert list(shown["final accuracy"]) == ["65.00 % ± 7.07"]
