"""Finished run directories as data frames, and which of them are seeds of one another."""

import json
import math

import pandas as pd
import pytest
import yaml

from fedsign.report.runs import Run, groups, read


@pytest.fixture
def folder(tmp_path):
    """``folder("finished")``: a run directory with a summary of that status."""

    def go(status):
        config = {"seed": 3, "local": {"lr": 0.1}, "algorithm": {"name": "fedavg"}, "hydra": {"run": {"dir": "x"}}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        (tmp_path / "metrics.csv").write_text("round,test_accuracy\n1,0.25\n2,0.5\n")
        (tmp_path / "summary.json").write_text(json.dumps({"status": status, "method": "FedAvg"}))
        return tmp_path

    return go


@pytest.mark.parametrize("status", ["finished", "stopped"])
def test_a_finished_run_is_read(folder, status):
    run = read(folder(status))
    assert run.config == {"seed": 3, "local.lr": 0.1, "algorithm.name": "fedavg"}
    assert run.algorithm == "fedavg"
    assert list(run.metrics["test_accuracy"]) == [0.25, 0.5]
    assert run.summary["status"] == status


@pytest.mark.parametrize("status", ["failed", "dry run", None])
def test_an_unfinished_run_is_left_out(folder, status):
    assert read(folder(status)) is None


def test_a_folder_that_holds_no_run_is_left_out(tmp_path):
    assert read(tmp_path) is None
    assert read(tmp_path / "nowhere") is None


def test_a_run_made_here_is_read(run):
    overrides = ("dataset=digits", "model=mlp", "rounds=2", "clients=10", "cohort=4", "local.epochs=1")
    found = read(run(*overrides, "algorithm=fedsmu"))
    assert found.algorithm == "fedsmu"
    assert found.config["rounds"] == 2
    assert not [key for key in found.config if key.startswith("hydra")]
    assert list(found.metrics["round"]) == [1, 2]


@pytest.mark.parametrize(("accuracy", "bits"), [(0.2, 100), (0.25, 100), (0.3, 200), (0.5, 200)])
def test_the_first_round_at_an_accuracy_counts(tmp_path, accuracy, bits):
    metrics = pd.DataFrame({"uplink_bits": [100, 200, 300], "test_accuracy": [0.25, 0.5, 0.1]})
    assert Run(tmp_path, {}, {}, metrics).first("uplink_bits", accuracy) == bits


def test_an_accuracy_that_was_never_reached_has_no_number(tmp_path):
    metrics = pd.DataFrame({"uplink_bits": [100], "test_accuracy": [0.25]})
    assert math.isnan(Run(tmp_path, {}, {}, metrics).first("uplink_bits", 0.26))


def made(path, algorithm="fedavg", **config):
    methods = {"fedavg": "FedAvg", "fedsmu": "FedSMU"}
    config = {"algorithm.name": algorithm, "seed": 0, "output": str(path), **config}
    return Run(path, config, {"method": methods[algorithm]}, pd.DataFrame())


def test_runs_of_two_methods_are_told_by_their_names(tmp_path):
    runs = [made(tmp_path), made(tmp_path, "fedsmu")]
    assert groups(runs) == {"FedAvg": [runs[0]], "FedSMU": [runs[1]]}


def test_runs_that_differ_in_the_seed_alone_are_one_group(tmp_path):
    runs = [made(tmp_path, seed=seed) for seed in range(3)]
    assert groups(runs) == {"FedAvg": runs}


def test_where_a_run_was_written_does_not_tell_it_from_another(tmp_path):
    runs = [made(tmp_path / str(i), **{"tracking.name": name}) for i, name in enumerate(("csv", "wandb"))]
    assert list(groups(runs)) == ["FedAvg"]


def test_keys_that_vary_within_a_method_are_told(tmp_path):
    runs = [made(tmp_path, **{"local.lr": lr, "algorithm.server_lr": 1.0}) for lr in (0.1, 0.05)]
    assert list(groups(runs)) == ["FedAvg local.lr=0.1", "FedAvg local.lr=0.05"]


def test_a_methods_own_keys_are_told_by_their_short_names(tmp_path):
    runs = [made(tmp_path, "fedsmu", **{"algorithm.bits": bits, "seed": seed}) for bits in (1, 3) for seed in (0, 1)]
    found = groups(runs)
    assert found == {"FedSMU bits=1": runs[:2], "FedSMU bits=3": runs[2:]}


def test_a_key_that_differs_between_methods_alone_is_not_told(tmp_path):
    runs = [made(tmp_path, **{"local.lr": 0.1}), made(tmp_path, "fedsmu", **{"local.lr": 0.05})]
    assert list(groups(runs)) == ["FedAvg", "FedSMU"]
