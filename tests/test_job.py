"""A run directory: what it holds, when it is written, and what a dry run says."""

import csv
import json
import math

import numpy as np
import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from run_files import model

from fedsign import __version__, cli, job, presets
from fedsign.tracking.progress import RoundProgress

DIGITS = ("dataset=digits", "model=mlp", "model.hidden=[16]", "clients=10", "cohort=4", "local.epochs=1")
COLUMNS = [
    "round", "uplink_bits", "uplink_bits_formula", "downlink_bits", "test_accuracy", "test_loss", "train_loss",
    "seconds",
]  # fmt: skip
D = 64 * 16 + 16 + 16 * 10 + 10
ROUNDS = 5


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """``finished("fedsmu")``: a run of five rounds of that method on digits, made once."""
    made = {}

    def go(algorithm):
        if algorithm not in made:
            made[algorithm] = tmp_path_factory.mktemp(algorithm)
            overrides = [*DIGITS, f"algorithm={algorithm}", f"rounds={ROUNDS}", f"output={made[algorithm]}"]
            cli.register_resolvers()
            with initialize_config_dir(str(presets.conf_folder()), version_base="1.3"):
                cfg = compose("config", overrides)
            job.run(OmegaConf.to_container(cfg, resolve=True))
        return made[algorithm]

    return go


def metrics(run):
    return pd.read_csv(run / "metrics.csv")


def summary(run):
    return json.loads((run / "summary.json").read_text())


def cohorts(run):
    with (run / "cohorts.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsmu"])
def test_a_run_directory_has_its_files(finished, algorithm):
    files = {path.name for path in finished(algorithm).iterdir()}
    assert files == {"config.yaml", "metrics.csv", "cohorts.csv", "summary.json", "model.npz", "checkpoint"}


@pytest.mark.parametrize(("algorithm", "own"), [("fedavg", []), ("fedsmu", ["zero_fraction"])])
def test_metrics_have_the_shared_columns_and_then_the_methods_own(finished, algorithm, own):
    assert list(metrics(finished(algorithm)).columns) == COLUMNS + own


@pytest.mark.parametrize(("algorithm", "bits"), [("fedavg", 32 * D), ("fedsmu", 8 * math.ceil(D / 8))])
def test_bits_are_cumulative_over_clients_and_rounds(finished, algorithm, bits):
    table = metrics(finished(algorithm))
    assert list(table["uplink_bits"]) == [4 * bits * t for t in range(1, ROUNDS + 1)]
    assert list(table["downlink_bits"]) == [4 * 32 * D * t for t in range(1, ROUNDS + 1)]


@pytest.mark.parametrize(("algorithm", "bits"), [("fedavg", 32 * D), ("fedsmu", D)])
def test_formula_bits_are_those_of_the_paper(finished, algorithm, bits):
    formula = metrics(finished(algorithm))["uplink_bits_formula"]
    assert list(formula) == [4 * bits * t for t in range(1, ROUNDS + 1)]


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsmu"])
def test_rows_are_in_their_ranges(finished, algorithm):
    table = metrics(finished(algorithm))
    assert list(table["round"]) == list(range(1, ROUNDS + 1))
    assert table["test_accuracy"].between(0, 1).all()
    assert (table[["test_loss", "train_loss"]] > 0).all(axis=None)
    assert table["seconds"].is_monotonic_increasing


def test_cohorts_are_ids_separated_by_spaces(finished):
    rows = cohorts(finished("fedavg"))
    assert [list(row) for row in rows] == [["round", "clients"]] * ROUNDS
    assert [int(row["round"]) for row in rows] == list(range(1, ROUNDS + 1))
    ids = [[int(client) for client in row["clients"].split(" ")] for row in rows]
    assert all(len(set(cohort)) == 4 and set(cohort) <= set(range(10)) for cohort in ids)


def test_every_method_sees_the_same_cohorts(finished):
    assert cohorts(finished("fedavg")) == cohorts(finished("fedsmu"))


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsmu"])
def test_the_summary_agrees_with_the_metrics(finished, algorithm):
    table, found = metrics(finished(algorithm)), summary(finished(algorithm))
    last, best = table.iloc[-1], table.loc[table["test_accuracy"].idxmax()]
    assert found["status"] == "finished" and found["algorithm"] == algorithm
    assert (found["best_accuracy"], found["best_round"]) == (best["test_accuracy"], best["round"])
    assert (found["final_accuracy"], found["rounds"]) == (last["test_accuracy"], ROUNDS)
    for key in ("uplink_bits", "uplink_bits_formula", "downlink_bits"):
        assert found[key] == last[key]


def test_the_summary_has_the_first_round_and_bits_of_each_reached_target(finished):
    table, targets = metrics(finished("fedsmu")), summary(finished("fedsmu"))["targets"]
    best = table["test_accuracy"].max()
    assert set(targets) == {f"{t / 20:g}" for t in range(1, 20) if t / 20 <= best}
    for target, reached in targets.items():
        first = table[table["test_accuracy"] >= float(target)].iloc[0]
        assert reached == {"round": first["round"], "uplink_bits": first["uplink_bits"]}


def test_the_summary_says_what_was_computed_and_with_what(finished):
    found = summary(finished("fedavg"))
    assert (found["parameters"], found["coded"], found["dense"], found["buffers"]) == (D, D, 0, 0)
    assert (found["clients"], found["cohort"], found["seed"]) == (10, 4, 0)
    assert found["versions"]["fedsign"] == __version__
    assert found["versions"].keys() >= {"python", "torch", "numpy"}
    assert found["hardware"].keys() >= {"device", "cores", "threads"}
    assert "git_commit" in found and found["wall_seconds"] > 0


def test_the_model_has_one_array_per_parameter_tensor(finished):
    shapes = {name: array.shape for name, array in model(finished("fedavg")).items()}
    assert shapes == {"fc1.weight": (16, 64), "fc1.bias": (16,), "fc2.weight": (10, 16), "fc2.bias": (10,)}


def test_the_config_file_is_the_resolved_config(finished, resolved):
    run = finished("fedavg")
    stored = yaml.safe_load((run / "config.yaml").read_text())
    stored.pop("hydra")
    assert stored == resolved(*DIGITS, "algorithm=fedavg", f"rounds={ROUNDS}", f"output={run}")


def test_a_consensus_run_measures_the_objective_and_distance(run, targets):
    folder = run("dataset=consensus", "model=vector", f"dataset.targets={targets}", "rounds=3", "cohort=12",
                 "local.epochs=1")  # fmt: skip
    y, found, last = np.load(targets), model(folder), metrics(folder).iloc[-1]
    assert list(found) == ["x"] and found["x"].shape == (7,)
    assert last["objective"] == pytest.approx(0.5 * ((found["x"] - y) ** 2).sum(axis=1).mean(), rel=1e-6)
    assert last["distance"] == pytest.approx(np.linalg.norm(found["x"] - y.mean(axis=0)), rel=1e-6)
    assert math.isnan(last["test_accuracy"]) and math.isnan(last["test_loss"])
    assert summary(folder)["final_objective"] == last["objective"]
    np.testing.assert_allclose(found["x"], (1 - 0.9**3) * y.mean(axis=0), rtol=1e-5)


def test_rows_appear_as_rounds_finish(run, monkeypatch, tmp_path):
    seen = []
    update = RoundProgress.update

    def look(self, t, row, uplink_bits):
        seen.append((t, len(metrics(tmp_path / "mine")), len(cohorts(tmp_path / "mine"))))
        update(self, t, row, uplink_bits)

    monkeypatch.setattr(RoundProgress, "update", look)
    run(*DIGITS, "rounds=3", f"output={tmp_path / 'mine'}")
    assert seen == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]


def test_every_other_round_is_evaluated_and_the_last(run, finished):
    folder = run(*DIGITS, f"rounds={ROUNDS}", "eval.every=2")
    sparse, full = metrics(folder), metrics(finished("fedavg"))
    assert list(sparse["round"]) == [2, 4, 5]
    assert len(cohorts(folder)) == ROUNDS
    expected = full[full["round"].isin([2, 4, 5])].reset_index(drop=True)
    pd.testing.assert_frame_equal(sparse.drop(columns="seconds"), expected.drop(columns="seconds"))


def test_a_run_stops_at_its_accuracy(run, finished):
    accuracy = metrics(finished("fedavg"))["test_accuracy"]
    target = float(accuracy.iloc[:3].max())
    first = int((accuracy >= target).idxmax()) + 1
    folder = run(*DIGITS, f"rounds={ROUNDS}", f"stop.accuracy={target}")
    assert len(metrics(folder)) == first < ROUNDS
    assert summary(folder)["status"] == "stopped"
    assert summary(folder)["targets"][f"{target:g}"]["round"] == first


def test_a_run_stops_at_its_uplink(run):
    folder = run(*DIGITS, f"rounds={ROUNDS}", f"stop.uplink_bits={4 * 32 * D * 2 - 1}")
    assert list(metrics(folder)["round"]) == [1, 2]
    assert summary(folder)["status"] == "stopped"


def test_a_run_that_stops_between_evaluations_is_evaluated_where_it_stops(run):
    folder = run(*DIGITS, "rounds=6", "eval.every=4", f"stop.uplink_bits={4 * 32 * D * 2}")
    assert list(metrics(folder)["round"]) == [2]
    assert summary(folder)["uplink_bits"] == 4 * 32 * D * 2


def test_a_stopped_run_is_finished(run, tmp_path, capsys):
    overrides = (*DIGITS, "rounds=4", "stop.uplink_bits=1", f"output={tmp_path / 'mine'}")
    run(*overrides)
    capsys.readouterr()
    run(*overrides)
    assert "finished already" in capsys.readouterr().out
    assert len(metrics(tmp_path / "mine")) == 1


def test_the_training_split_is_evaluated_on_request(run):
    table = metrics(run(*DIGITS, "rounds=2", "eval.train=true"))
    assert list(table.columns) == [*COLUMNS, "global_train_accuracy", "global_train_loss"]
    assert table["global_train_accuracy"].between(0, 1).all() and (table["global_train_loss"] > 0).all()


def test_the_magnitude_uniformity_is_measured_on_request(run):
    table = metrics(run(*DIGITS, "rounds=2", "eval.mu_index=true"))
    assert list(table.columns) == [*COLUMNS, "mu_index"]
    assert table["mu_index"].between(1 / 4, 1).all()


def test_measuring_more_changes_no_number(run, finished):
    table = metrics(run(*DIGITS, f"rounds={ROUNDS}", "eval.train=true", "eval.mu_index=true"))
    columns = [column for column in COLUMNS if column != "seconds"]
    pd.testing.assert_frame_equal(table[columns], metrics(finished("fedavg"))[columns])


def test_the_same_seed_gives_the_same_numbers(run, finished):
    again = run(*DIGITS, "algorithm=fedsmu", f"rounds={ROUNDS}")
    ours, theirs = metrics(again), metrics(finished("fedsmu"))
    pd.testing.assert_frame_equal(ours.drop(columns="seconds"), theirs.drop(columns="seconds"), check_exact=True)
    for name, array in model(finished("fedsmu")).items():
        np.testing.assert_array_equal(model(again)[name], array)


def test_another_seed_gives_other_numbers(run, finished):
    other = run(*DIGITS, f"rounds={ROUNDS}", "seed=1")
    assert not np.array_equal(model(other)["fc1.weight"], model(finished("fedavg"))["fc1.weight"])
    assert cohorts(other) != cohorts(finished("fedavg"))


def test_a_dry_run_trains_nothing(run):
    folder = run(*DIGITS, "dry_run=true")
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "summary.json"}
    assert summary(folder)["status"] == "dry run"


def test_a_dry_run_counts_parameters_tensors_sizes_and_bits(run, capsys):
    found = summary(run(*DIGITS, "algorithm=fedsmu", "algorithm.codes=weights", "dry_run=true"))
    coded, dense = 64 * 16 + 16 * 10, 16 + 10
    assert (found["parameters"], found["coded"], found["dense"], found["buffers"]) == (D, coded, dense, 0)
    assert {t["name"]: (t["shape"], t["part"]) for t in found["tensors"]} == {
        "fc1.weight": ([16, 64], "coded"),
        "fc2.weight": ([10, 16], "coded"),
        "fc1.bias": ([16], "dense"),
        "fc2.bias": ([10], "dense"),
    }
    assert found["client_sizes"] == [1442 // 10] * 10
    bits = found["bits_per_round"]
    assert bits["uplink"] == 4 * (8 * math.ceil(coded / 8) + 32 * dense)
    assert bits["uplink_formula"] == 4 * (coded + 32 * dense)
    assert bits["downlink"] == 4 * 32 * D
    assert "fc1.weight" in capsys.readouterr().out


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsmu"])
def test_a_dry_run_names_the_bits_that_a_round_sends(run, finished, algorithm):
    bits = summary(run(*DIGITS, f"algorithm={algorithm}", "dry_run=true"))["bits_per_round"]
    first = metrics(finished(algorithm)).iloc[0]
    assert (bits["uplink"], bits["uplink_formula"]) == (first["uplink_bits"], first["uplink_bits_formula"])
    assert bits["downlink"] == first["downlink_bits"]


def test_a_dry_run_needs_no_data(run, tmp_path):
    (tmp_path / "empty").mkdir()
    found = summary(run("dataset=cifar10", "model=lenet", f"dataset.root={tmp_path / 'empty'}", "dry_run=true"))
    assert found["parameters"] == 797_962
    assert found["client_sizes"] is None
    assert found["bits_per_round"]["uplink"] == 10 * 32 * 797_962
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_run_begins_where_a_dry_run_was(run, tmp_path):
    overrides = (*DIGITS, "rounds=1", f"output={tmp_path / 'mine'}")
    run(*overrides, "dry_run=true")
    run(*overrides)
    assert summary(tmp_path / "mine")["status"] == "finished"
