"""What the theory promises of FedAMS and FedCAMS."""

import json

import numpy as np
import pytest
import torch
from toys import Watch, algorithm, flat, round_of

from fedsign import codecs
from fedsign.config import Config
from fedsign.execution import setup
from fedsign.execution.ranks import Ranks
from fedsign.simulator import Simulator

SMALL = ("algorithm.server_lr=0.1", "local.steps=3", "rounds=10")


@pytest.mark.parametrize("cohort", [12, 5])
def test_fedcams_without_compression_is_fedams_bit_for_bit(consensus, cohort):
    y = np.random.default_rng(0).normal(size=(12, 20))
    _, fedams = consensus(y, "algorithm=fedams", *SMALL, f"cohort={cohort}")
    _, fedcams = consensus(y, "algorithm=fedcams", "algorithm.codec=identity", *SMALL, f"cohort={cohort}")
    assert np.array_equal(fedcams, fedams)


def test_fedams_without_moments_is_fedavg(consensus):
    """beta_1 = 0 and beta_2 = 1 leave v at zero and v_hat at ε: a step of η / √ε."""
    y = np.random.default_rng(1).normal(size=(9, 20))
    given = ("local.steps=2", "cohort=4", "rounds=8")
    keys = ("beta_1=0", "beta_2=1", "eps=0.04", "server_lr=0.1")
    _, fedams = consensus(y, "algorithm=fedams", *(f"algorithm.{key}" for key in keys), *given)
    _, fedavg = consensus(y, "algorithm=fedavg", "algorithm.server_lr=0.5", *given)
    np.testing.assert_allclose(fedams, fedavg, atol=1e-6)


@pytest.mark.parametrize("method", ["fedams", "fedcams"])
def test_v_hat_never_falls_nor_lies_below_eps(resolved, targets, method):
    given = ("dataset=consensus", "model=vector", "local.epochs=null", f"dataset.targets={targets}", "cohort=5", *SMALL)
    config = Config(resolved(f"algorithm={method}", "algorithm.beta_2=0.3", *given))
    simulator = Simulator(config, setup.build(config))
    seen = Watch(simulator)
    simulator.run(Ranks(), seen, seen, seen)
    assert torch.equal(seen.servers[0]["v_hat"], torch.full((7,), 1e-3))
    for before, after in zip(seen.servers, seen.servers[1:], strict=False):
        assert (after["v_hat"] >= before["v_hat"]).all()
        assert (after["v_hat"] >= after["v"]).all()
    assert (seen.servers[-1]["v_hat"] > seen.servers[-1]["v"]).any()  # it is a maximum, not the last v
    assert (seen.servers[-1]["v_hat"] > 1e-3).any()


def test_one_step_of_fedams_by_hand():
    fedams = algorithm("fedams", server_lr=2.0, beta_1=0.75, beta_2=0.5, eps=0.25)
    server = fedams.init(torch.zeros(2), flat(2))
    sent = {"Delta": codecs.Float32().encode(torch.tensor([[1.0, 4.0], [-3.0, 12.0]]))}
    server = fedams.server(server, sent, round_of(2, 2))
    assert server["m"].tolist() == [-0.25, 2.0]  # a quarter of the mean, (-1, 8)
    assert server["v"].tolist() == [0.5, 32.0]
    assert server["v_hat"].tolist() == [0.5, 32.0]
    np.testing.assert_allclose(server["x"], [-0.5 / 0.5**0.5, 4 / 32**0.5], rtol=1e-6)


def test_fedcams_scales_the_whole_vector_at_once(run):
    """One scale, d + 32 bits, however many tensors there are; FedEF has one of each."""
    outs = [run(f"algorithm={name}", "model=lenet_small", "dry_run=true") for name in ("fedcams", "fedef")]
    fedcams, fedef = (json.loads((out / "summary.json").read_text())["bits_per_round"] for out in outs)
    assert fedef["uplink_formula"] - fedcams["uplink_formula"] == 10 * 7 * 32
