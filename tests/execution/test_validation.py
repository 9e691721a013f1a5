"""``dataset.validation``: some of every client's samples are not trained on; the global model is measured on them."""

import json
import os
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from run_files import assert_same, metrics, model

from fedsign.config import Config
from fedsign.errors import ConfigError
from fedsign.execution import setup
from fedsign.interrupt import Interrupted
from fedsign.tracking.progress import RoundProgress

DIGITS = ("dataset=digits", "model=mlp", "model.hidden=[16]", "clients=9", "cohort=5", "local.epochs=1", "rounds=4")
UNEQUAL = (*DIGITS, "partition=dirichlet_per_class", "partition.alpha=0.3")
HELD_OUT = "dataset.validation=0.25"
COLUMNS = ["validation_accuracy", "validation_loss"]


@pytest.fixture
def held(resolved):
    """``held([[3, 1], [2]], "seed=1")``: what these clients train on, and what is held out."""

    def go(parts, *overrides):
        training, out = setup.hold_out(Config(resolved(*overrides)), [np.array(part) for part in parts])
        return [part.tolist() for part in training], out.tolist()

    return go


SIZES = [1, 2, 5, 10, 40]
PARTS = [list(range(100 * i, 100 * i + size)) for i, size in enumerate(SIZES)]


@pytest.mark.parametrize(
    ("fraction", "counts"), [(0.1, [0, 0, 1, 1, 4]), (0.5, [0, 1, 3, 5, 20]), (0.99, [0, 1, 4, 9, 39])]
)
def test_every_client_gives_its_fraction_and_keeps_a_sample(held, fraction, counts):
    training, out = held(PARTS, f"dataset.validation={fraction}")
    assert [len(part) for part in training] == [size - k for size, k in zip(SIZES, counts, strict=True)]
    assert sorted([*out, *(sample for part in training for sample in part)]) == sorted(
        sample for part in PARTS for sample in part
    )
    for part, whole in zip(training, PARTS, strict=True):
        assert part == [sample for sample in whole if sample not in out]


def test_nothing_is_held_out_by_default(held):
    assert held(PARTS) == (PARTS, [])


def test_it_is_a_function_of_the_seed_and_of_the_client(held):
    same = [list(range(20))] * 2
    (a, b), _ = first = held(same, HELD_OUT)
    assert first == held(same, HELD_OUT)
    assert first != held(same, HELD_OUT, "seed=1")
    assert a != b


def test_a_fraction_of_which_no_client_has_a_sample_is_refused(held):
    with pytest.raises(ConfigError, match=r"^dataset.validation=0.001: holds out no sample.* largest client has 40$"):
        held(PARTS, "dataset.validation=0.001")


@pytest.mark.parametrize("wrong", ["1", "-0.1", "true"])
def test_what_is_no_fraction_is_refused(resolved, wrong):
    with pytest.raises(ConfigError, match=rf"^dataset.validation={wrong}: .*\[0, 1\)"):
        Config(resolved(f"dataset.validation={wrong}"))


def test_consensus_has_nothing_to_hold_out(resolved, targets):
    config = Config(resolved("dataset=consensus", "model=vector", f"dataset.targets={targets}"))
    assert "validation" not in config.resolved["dataset"] and config.dataset.held_out() == 0


@pytest.mark.parametrize("vectorise", ["false", "true"])
def test_no_batch_has_a_sample_that_is_held_out(resolved, vectorise):
    built = setup.build(Config(resolved(*UNEQUAL, HELD_OUT, f"hardware.vectorise={vectorise}")))
    executor, seen = built.executor, []
    batch = executor.task.batch

    def watched(indices, rng):
        seen.extend(indices.tolist())
        return batch(indices, rng)

    executor.task.batch = watched
    d = built.layout.coded
    executor.training(list(range(9)), 1, built.initial[d:]).train(built.initial[:d])
    training = {sample for part in executor.parts for sample in part.tolist()}
    assert training.isdisjoint(executor.validation.tolist())
    assert set(seen) == training


def test_counts_steps_and_weights_are_those_of_the_training_part(resolved):
    whole, part = (setup.build(Config(resolved(*UNEQUAL, *given))).executor for given in ((), (HELD_OUT,)))
    clients = list(range(9))
    left = [n - min(int(n * 0.25 + 0.5), n - 1) for n in whole.samples(clients)]
    assert part.samples(clients) == left
    training = part.training(clients, 1, torch.empty(0))
    assert training.samples.tolist() == left
    assert training.step_counts == [-(-n // 50) for n in left]


@pytest.mark.parametrize("given", [(), ("dataset.augment=true", "partition.alpha=0.05")])
def test_the_columns_are_the_final_models_on_the_samples_held_out(run, resolved, given):
    overrides = (*DIGITS, HELD_OUT, *given, "rounds=2", "eval.batch_size=100")
    folder = run(*overrides)
    built = setup.build(Config(resolved(*overrides)))
    executor, module = built.executor, built.executor.model.module
    module.load_state_dict({name: torch.from_numpy(array) for name, array in model(folder).items()})
    correct = loss = 0.0
    for sample in executor.validation.tolist():
        logits = module(executor.task.train_inputs(torch.tensor([sample])))[0].double().detach().numpy()
        label = executor.task.labels[sample]
        correct += int(np.argmax(logits) == label)
        loss += np.log(np.exp(logits).sum()) - logits[label]
    last = pd.read_csv(folder / "metrics.csv").iloc[-1]
    n = len(executor.validation)
    assert n == sum(int(160 * 0.25 + 0.5) for _ in range(9))
    assert (last["validation_accuracy"], last["validation_loss"]) == (correct / n, pytest.approx(loss / n, rel=1e-5))
    assert 0 < last["validation_accuracy"] < 1


def test_other_models_of_a_method_are_not_measured_on_it(run):
    given = ("dataset=mnist5k", "model=lenet5", "model.channels=[4,8]", "clients=80", "cohort=2", "local.epochs=1")
    columns = metrics(run(*given, "algorithm=fedvote", "rounds=1", HELD_OUT)).columns
    assert [column for column in columns if "validation" in column] == COLUMNS
    assert "binary_accuracy" in columns


def test_held_out_is_nothing_of_the_run_without_it(run):
    without, zero = run(*UNEQUAL), run(*UNEQUAL, "dataset.validation=0.0")
    assert_same(without, zero)
    assert not {*COLUMNS} & {*metrics(zero)}
    found = json.loads((zero / "summary.json").read_text())
    assert not [key for key in found if "validation" in key]


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsmu"])
def test_the_number_of_workers_changes_no_bit(run, algorithm):
    given = (*UNEQUAL, HELD_OUT, f"algorithm={algorithm}", "eval.batch_size=50", "eval.train=true")
    alone, two = (run(*given, f"hardware.workers={n}") for n in (1, 2))
    assert_same(alone, two)


def test_a_run_that_goes_on_is_the_same(run, tmp_path, monkeypatch):
    whole = run(*UNEQUAL, HELD_OUT)

    def stop(self, t, row, uplink_bits):
        if t == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    out = f"output={tmp_path / 'mine'}"
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(RoundProgress, "update", stop)
        run(*UNEQUAL, HELD_OUT, out)
    assert len(metrics(tmp_path / "mine")) == 2
    mine = run(*UNEQUAL, HELD_OUT, out)
    assert_same(whole, mine)
    ours, theirs = (json.loads((folder / "summary.json").read_text()) for folder in (mine, whole))
    for key in ("best_validation_accuracy", "accuracy_at_best_validation"):
        assert ours[key] == theirs[key]


def test_the_summary_has_the_best_and_the_test_accuracy_of_its_round(run):
    folder = run(*UNEQUAL, HELD_OUT)
    table, found = pd.read_csv(folder / "metrics.csv"), json.loads((folder / "summary.json").read_text())
    best = table.loc[table["validation_accuracy"].idxmax()]
    assert found["best_validation_accuracy"] == best["validation_accuracy"]
    assert found["accuracy_at_best_validation"] == best["test_accuracy"]


def test_a_dry_run_has_the_sizes_that_are_trained_on(run):
    whole, part = (json.loads((run(*UNEQUAL, "dry_run=true", *given) / "summary.json").read_text())
                   for given in ((), (HELD_OUT,)))  # fmt: skip
    expected = [n - min(int(n * 0.25 + 0.5), n - 1) for n in whole["client_sizes"]]
    assert part["client_sizes"] == expected
