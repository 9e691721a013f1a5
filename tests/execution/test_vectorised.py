"""Clients side by side are trained as they are one after the other, to rounding, on the very same batches."""

import numpy as np
import pandas as pd
import pytest
import torch

from fedsign.algorithms.base import receive, send
from fedsign.config import Config
from fedsign.errors import ConfigError
from fedsign.execution import setup
from fedsign.execution.vectorised import Vectorised
from fedsign.local.optimizers import Adam, Lion

DIGITS = ("dataset=digits", "model=mlp", "model.hidden=[16]", "clients=9", "cohort=5")
DIGITS = (
    *DIGITS,
    "partition=dirichlet_per_class",
    "partition.alpha=0.3",
    "local.batch_size=16",
)
IMAGES = ("dataset=mnist5k", "model=lenet_small", "clients=40", "cohort=4", "local.batch_size=16")
VIT = ("model=vit_s", "model.patch=2", "model.width=16", "model.depth=2", "model.heads=2")
CASES = {
    "sgd": (*DIGITS, "local.epochs=2"),
    "tail": (*DIGITS, "local.epochs=1", "algorithm.codes=weights"),
    "momentum": (*DIGITS, "local.epochs=1", "local.momentum=0.9", "local.weight_decay=1e-3", "local.clip_norm=1.0"),
    "adam": (*DIGITS, "local.epochs=1", "local.optimizer=adam", "local.lr=0.01"),
    "steps": (*DIGITS, "local.epochs=null", "local.steps=7", "local.batch_size=200"),
    "images": (*IMAGES, "local.epochs=1", "dataset.augment=true"),
    "transformer": (*DIGITS[:1], *DIGITS[3:], *VIT, "local.epochs=1", "local.lr=0.01"),
}


def executors(resolved, *overrides):
    serial, vectorised = (
        setup.build(Config(resolved(*overrides, f"hardware.vectorise={way}"))) for way in ("false", "true")
    )
    assert isinstance(vectorised.executor, Vectorised)
    for built in (serial, vectorised):  # clients of different sizes
        built.executor.parts = [part[: len(part) - 19 * (i % 3)] for i, part in enumerate(built.executor.parts)]
    return serial, vectorised


def side_by_side(resolved, overrides, **hooks):
    """What both ways give for the first cohort of a run: y, tails, losses."""
    out = []
    for built in executors(resolved, *overrides):
        d = built.layout.coded
        training = built.executor.training([0, 3, 4, 8], 1, built.initial[d:])
        trained = training.train(receive(send(x=built.initial[:d])["x"]), **hooks)
        out.append((trained, training))
    return out


@pytest.mark.parametrize("case", CASES)
def test_training_gives_the_same_models(resolved, case):
    (one, serial), (all_, vectorised) = side_by_side(resolved, CASES[case])
    torch.testing.assert_close(all_.y, one.y, rtol=0, atol=1e-5)
    torch.testing.assert_close(vectorised.tails, serial.tails, rtol=0, atol=1e-5)
    torch.testing.assert_close(vectorised.updates, serial.updates, rtol=0, atol=1e-5)
    torch.testing.assert_close(vectorised.logs["train_loss"], serial.logs["train_loss"], rtol=1e-4, atol=1e-5)
    assert len(set(serial.step_counts)) > 1 or case == "steps"  # the clients have different numbers of steps


def test_a_gradient_is_the_same(resolved):
    out = []
    for built in executors(resolved, *CASES["tail"]):
        d = built.layout.coded
        training = built.executor.training([0, 3, 4, 8], 1, built.initial[d:])
        out.append((training.gradient(built.initial[:d]), training.tails))
    for one, all_ in zip(*out, strict=True):
        torch.testing.assert_close(all_, one, rtol=0, atol=1e-6)


def test_corrections_and_optimisers_with_a_start(resolved):
    generator = torch.Generator().manual_seed(0)
    d = 64 * 16 + 16 + 16 * 10 + 10
    correction, m = (torch.randn(4, d, generator=generator) for _ in range(2))
    for hooks in ({"correction": correction}, {"optimizer": Lion(lr=0.01, start={"m": m})}, {"optimizer": Adam()}):
        (one, _), (all_, _) = side_by_side(resolved, (*CASES["sgd"], "local.lr=0.01"), **hooks)
        torch.testing.assert_close(all_.y, one.y, rtol=0, atol=2e-5)
        assert one.optimizer.keys() == all_.optimizer.keys()
        for name, rows in one.optimizer.items():
            torch.testing.assert_close(all_.optimizer[name], rows, rtol=0, atol=1e-4)


class Rounding:
    """Weights rounded at random, by the step's own generator; straight through, and scaled by the step."""

    def __init__(self):
        self.seen = []

    def forward(self, v, row, step):
        self.seen.append((row, step.k, step.total))
        return v + 0.1 * torch.rand(v.shape, generator=step.generator) * step.k / step.total

    def backward(self, v, gradient, row):
        return gradient * (1 + row)


def test_weight_maps_see_the_same_rows_steps_and_draws(resolved):
    maps = Rounding(), Rounding()
    out = []
    for built, weights in zip(executors(resolved, *CASES["sgd"]), maps, strict=True):
        training = built.executor.training([0, 3, 4, 8], 1, built.initial[built.layout.coded :])
        out.append(training.train(built.initial[: built.layout.coded], weights=weights).y)
    assert sorted(maps[0].seen) == sorted(maps[1].seen)
    torch.testing.assert_close(out[1], out[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["fedavg", "fedsmu", "zsign", "sgdm"])
def test_a_round_is_the_same_to_rounding_and_its_cohorts_exactly(run, method):
    """Signs may flip where a value is a rounding from zero, so those methods are compared in how many do."""
    given = (*CASES["sgd"], f"algorithm={method}", "rounds=1")
    one, all_ = (run(*given, f"hardware.vectorise={way}") for way in ("false", "true"))
    assert (one / "cohorts.csv").read_bytes() == (all_ / "cohorts.csv").read_bytes()
    left, right = (pd.read_csv(out / "metrics.csv") for out in (one, all_))
    assert list(left["uplink_bits"]) == list(right["uplink_bits"])
    with np.load(one / "model.npz") as ours, np.load(all_ / "model.npz") as theirs:
        moved = np.concatenate([np.abs(ours[n] - theirs[n]).ravel() > 1e-5 for n in ours.files])
    assert moved.mean() <= (0 if method in ("fedavg", "sgdm") else 0.002)


@pytest.mark.parametrize(
    ("model", "reason"), [("cnn4", "BatchNorm"), ("char_lstm dataset=shakespeare partition=natural", "LSTM")]
)
def test_models_that_cannot_be_vectorised_are_refused_before_the_data_are_read(resolved, model, reason):
    name, *rest = model.split()
    config = Config(resolved(f"model={name}", *rest, "hardware.vectorise=true"))
    with pytest.raises(ConfigError, match=rf"hardware.vectorise=true: not with model={name}, .*{reason}"):
        setup.build(config)


def test_a_cpu_does_not_vectorise_by_itself(resolved):
    assert not isinstance(setup.build(Config(resolved(*DIGITS))).executor, Vectorised)


def test_the_gradient_compiles_as_one_graph_of_fixed_shape(resolved):
    """What a GPU replays as a CUDA graph, traced here by a back end that needs none."""
    graphs = []

    def back_end(graph, inputs):
        graphs.append([tuple(value.shape) for value in inputs if isinstance(value, torch.Tensor)])
        return graph.forward

    built = executors(resolved, *CASES["sgd"])[1]
    eager = built.executor.gradients
    built.executor.gradients = torch.compile(eager, backend=back_end, dynamic=False, fullgraph=True)
    out = []
    for gradients in (eager, built.executor.gradients):
        built.executor.gradients = gradients
        training = built.executor.training([0, 3, 4, 8], 1, built.initial[built.layout.coded :])
        out.append(training.train(built.initial[: built.layout.coded]).y)
    torch.testing.assert_close(out[1], out[0], rtol=0, atol=1e-6)
    assert len(graphs) == 1  # no step has a shape of its own
