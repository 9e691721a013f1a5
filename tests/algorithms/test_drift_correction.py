"""What the theory promises of SCAFFOLD, SCALLION and SCAFCOM."""

import dataclasses

import numpy as np
import pytest
import torch
from toys import Given, Watch, algorithm, flat, round_of, streams

from fedsign import codecs
from fedsign.algorithms.base import send
from fedsign.config import Config
from fedsign.execution import setup
from fedsign.execution.ranks import Ranks
from fedsign.simulator import Simulator

METHODS = [
    ("scaffold",),
    ("scallion", "algorithm.levels=1"),
    ("scallion", "algorithm.codec=identity"),
    ("scafcom", "algorithm.ratio=0.3"),
    ("scafcom", "algorithm.codec=sign"),
    ("scafcom", "algorithm.codec=heavy_sign", "algorithm.ratio=0.5"),
]


class Trained(Given):
    """`Given` with a layout and local steps of each client."""

    def __init__(self, v, lr=1.0, steps=None):
        super().__init__(v, lr)
        self.layout, self.steps = flat(v.shape[1]), torch.tensor(steps or [1] * len(v))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cohort", [12, 4])
@pytest.mark.parametrize("method", METHODS, ids=" ".join)
def test_c_is_the_mean_of_all_the_c_i(resolved, targets, method, cohort):
    given = ("dataset=consensus", "model=vector", "local.epochs=null", "local.steps=3", "rounds=12", f"cohort={cohort}")
    config = Config(resolved(f"algorithm={method[0]}", *method[1:], *given, f"dataset.targets={targets}"))
    simulator = Simulator(config, setup.build(config))
    seen = Watch(simulator)
    simulator.run(Ranks(), seen, seen, seen)
    for server, states in zip(seen.servers, seen.states, strict=True):
        np.testing.assert_allclose(server["c"], states["c_i"].double().mean(dim=0), atol=1e-6)
    assert max(server["c"].abs().max() for server in seen.servers) > 0.05


@pytest.mark.parametrize("cohort", [9, 4])
@pytest.mark.parametrize(
    "method",
    [
        ("scallion", "algorithm.codec=identity", "algorithm.alpha=1"),
        ("scafcom", "algorithm.codec=identity", "algorithm.beta=1"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("server_lr", [1.0, 0.4])
def test_without_compression_and_damping_it_is_scaffold(consensus, method, server_lr, cohort):
    y = np.random.default_rng(0).normal(size=(9, 20))
    given = ("local.steps=5", "local.lr_decay=0.9", f"cohort={cohort}", "rounds=8", f"algorithm.server_lr={server_lr}")
    _, scaffold = consensus(y, "algorithm=scaffold", *given)
    _, x = consensus(y, f"algorithm={method[0]}", *method[1:], *given)
    np.testing.assert_allclose(x, scaffold, atol=1e-5)


@pytest.mark.parametrize("method", [("scallion", "alpha"), ("scafcom", "beta")], ids=" ".join)
def test_so_it_is_for_clients_of_unequal_size(run, method):
    """Each has its own number of local steps K_i."""
    given = ("dataset=digits", "model=mlp", "partition=dirichlet_per_class", "partition.alpha=0.5", "clients=8")
    given += ("cohort=4", "rounds=4", "local.epochs=2", "local.batch_size=20", "local.lr=0.05")
    name, key = method
    outs = [
        run("algorithm=scaffold", *given),
        run(f"algorithm={name}", "algorithm.codec=identity", f"algorithm.{key}=1", *given),
        run("algorithm=fedavg", *given),
    ]
    scaffold, x, fedavg = (np.load(out / "model.npz") for out in outs)
    for tensor in scaffold.files:
        np.testing.assert_allclose(x[tensor], scaffold[tensor], atol=2e-4)
        assert np.abs(fedavg[tensor] - scaffold[tensor]).max() > 1e-3


@pytest.mark.parametrize("method", ["scaffold", "scallion", "scafcom"])
def test_alpha_damps_even_without_compression(consensus, method):
    """With alpha or beta < 1 SCALLION and SCAFCOM are not SCAFFOLD."""
    y = np.random.default_rng(0).normal(size=(9, 20))
    given = ("local.steps=5", "cohort=9", "rounds=1")
    keys = () if method == "scaffold" else ("algorithm.codec=identity",)
    _, x = consensus(y, f"algorithm={method}", *keys, *given)
    full = (1 - 0.9**5) * y.mean(axis=0)
    np.testing.assert_allclose(x, full * {"scaffold": 1.0, "scallion": 0.1, "scafcom": 0.2}[method], atol=1e-6)


def test_one_client_is_sgd(consensus):
    y = np.random.default_rng(1).normal(size=(1, 20))
    _, x = consensus(y, "algorithm=scaffold", "local.steps=5", "rounds=6")
    np.testing.assert_allclose(x, (1 - 0.9**30) * y[0], atol=1e-5)


def test_after_one_full_round_c_i_is_the_mean_gradient_over_each_clients_own_steps():
    v, steps = normal(3, 50), [1, 4, 10]
    state = {"c_i": torch.zeros(3, 50)}
    x = normal(50, seed=1)
    scaffold = algorithm("scaffold")
    server = scaffold.init(x, flat(50))
    sent, state = scaffold.client(
        scaffold.broadcast(server), state, Trained(v, lr=0.5, steps=steps), streams([0, 1, 2])
    )
    mean_gradient = v / torch.tensor(steps)[:, None]  # the client ends at x - lr v
    torch.testing.assert_close(state["c_i"], mean_gradient, atol=1e-5, rtol=0)
    server = scaffold.server(server, sent, round_of(3, 50))
    torch.testing.assert_close(server["c"], mean_gradient.mean(dim=0), atol=1e-5, rtol=0)


def test_control_variates_of_absent_clients_count_in_c():
    """c moves by 1/N, not by 1/n."""
    sent = {part: codecs.Float32().encode(torch.ones(2, 3)) for part in ("Delta_y", "Delta_c")}
    server = {"x": torch.zeros(3), "c": torch.zeros(3)}
    after = algorithm("scaffold").server(server, sent, dataclasses.replace(round_of(2, 3), population=8))
    assert after["x"].tolist() == [1.0] * 3
    assert after["c"].tolist() == [0.25] * 3


@pytest.mark.parametrize("levels", [1, 7])
def test_what_scallion_sends_is_unbiased(levels):
    """The mean of many clients of equal delta, within five standard errors of QSGD's rounding."""
    n, d, alpha = 4000, 12, 0.25
    v = normal(1, d).expand(n, d)
    c = normal(d, seed=2)
    scallion = algorithm("scallion", alpha=alpha, levels=levels)
    downlink = send(x=torch.zeros(d), c=c)
    sent, state = scallion.client(downlink, {"c_i": torch.zeros(n, d)}, Trained(v), streams(range(n)))
    delta = alpha * (v[0] - c).double()
    scaled = delta.abs() / delta.norm() * levels
    variance = (delta.norm() / levels) ** 2 * (scaled - scaled.floor()) * (1 - scaled + scaled.floor())
    mean = codecs.QSGD(levels, "l2").mean(sent["delta"], d).double()
    assert ((mean - delta).abs() <= 5 * (variance / n).sqrt() + 1e-6).all()
    assert torch.equal(state["c_i"], codecs.QSGD(levels, "l2").decode(sent["delta"], d))  # c_i moves by what is sent


def test_weight_decay_is_part_of_the_gradient_that_c_i_holds(consensus):
    """With x - y_i + w x for a gradient, all clients meet at mean y / (1 + w)."""
    y = np.random.default_rng(2).normal(size=(6, 20))
    _, x = consensus(y, "algorithm=scaffold", "local.steps=5", "rounds=60", "local.weight_decay=0.25")
    np.testing.assert_allclose(x, y.mean(axis=0) / 1.25, atol=1e-4)


def test_the_fixed_point_is_the_mean_of_the_local_optima(consensus):
    y = np.random.default_rng(3).normal(size=(12, 20))
    _, x = consensus(y, "algorithm=scaffold", "local.steps=5", "rounds=60")
    np.testing.assert_allclose(x, y.mean(axis=0), atol=1e-4)
