"""Updates compressed after training: scope of the scales, what is sent, degenerations, and entropy coding."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hydra.errors import HydraException
from toys import Given, algorithm, flat, round_of, streams

from fedsign.algorithms.base import send
from fedsign.config import Config
from fedsign.errors import ConfigError, FedsignError
from fedsign.models.parameters import Layout, Segment

D = 24_794  # parameters of lenet_small on MNIST, in 10 tensors
METHODS = ("fedpaq", "terngrad", "topk", "drive", "eden", "sign_update")
CONSENSUS = ("dataset=consensus", "model=vector", "local.epochs=null", "local.steps=2")

# overrides: (bits of a client by the exact count, padding to whole bytes included; by the papers' count)
UPLINK = {
    "fedpaq": (2 * 24_800 + 32 * 8, 2 * D + 32 * 8),
    "fedpaq algorithm.per_tensor=false": (2 * 24_800 + 32, 2 * D + 32),
    "fedpaq algorithm.levels=4 algorithm.norm=linf": (4 * 24_800 + 32 * 8, 4 * D + 32 * 8),
    "fedpaq algorithm.levels=127": (8 * 24_800 + 32 * 8, 8 * D + 32 * 8),
    "terngrad": (2 * 24_800 + 32 * 8, math.log2(3) * D + 32 * 8),
    "drive": (24_832 + 32 * 3 + 32, D + 64),
    "eden": (24_832 + 32 * 3 + 32, D + 64),
    "eden algorithm.bits=2": (2 * 24_832 + 32 * 3 + 32, 2 * D + 64),
    "eden algorithm.bits=3": (3 * 24_832 + 32 * 3 + 32, 3 * D + 64),
    "eden algorithm.bits=4": (4 * 24_832 + 32 * 3 + 32, 4 * D + 64),
    "sign_update": (24_800 + 32 * 8, D + 32 * 8),
}


def split(case):
    return [f"algorithm={case.split()[0]}", *case.split()[1:]]


def two_tensors(a, b):
    return Layout((Segment("a", 0, a, (a,)), Segment("b", a, a + b, (b,))), coded=a + b, dense=0, buffers=0, tensors=2)


def received(method, u, layout=None):
    """What the server adds to x = 0 for the updates u [n, d]."""
    n, d = u.shape
    layout = layout or flat(d)
    local = Given(-u)
    local.layout = layout
    uplink, state = method.client(send(x=torch.zeros(d)), {}, local, streams(range(n)))
    assert state == {}
    round = dataclasses.replace(round_of(n, d), layout=layout)
    return method.server({"x": torch.zeros(d)}, uplink, round)["x"]


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", UPLINK)
def test_uplink_has_the_exact_length(run, case):
    out = run(*split(case), "model=lenet_small", "dataset=mnist", "cohort=10", "dry_run=true")
    bits = json.loads((out / "summary.json").read_text())["bits_per_round"]
    measured, formula = UPLINK[case]
    assert bits["uplink_per_client"] == {"u": measured}
    assert bits["uplink_formula"] == pytest.approx(10 * formula)
    assert bits["downlink_per_client"] == {"x": 32 * D}


@pytest.mark.parametrize(("ratio", "bits_per_parameter"), [(0.03, 1.157), (0.1, 3.67), (0.5, 17.0), (1.0, 32.01)])
def test_top_k_counts_its_indices(run, ratio, bits_per_parameter):
    given = ("algorithm=topk", f"algorithm.ratio={ratio}", "model=lenet_small", "dataset=mnist", "dry_run=true")
    bits = json.loads((run(*given) / "summary.json").read_text())["bits_per_round"]
    k = int(ratio * D)
    assert bits["uplink_formula"] == 10 * 32 * k
    entropy = 0 if ratio == 1 else D * -(ratio * math.log2(ratio) + (1 - ratio) * math.log2(1 - ratio))
    assert 32 * k + 0.99 * entropy < bits["uplink_per_client"]["u"] < 32 * k + 1.01 * entropy + 120
    assert bits["uplink_bits_per_parameter"] == pytest.approx(bits_per_parameter, rel=0.005)


@pytest.mark.parametrize("name", ["fedpaq", "terngrad", "sign_update"])
def test_every_tensor_has_its_scale(name):
    """The second tensor is a million times the first: under one scale the first would vanish, or be drowned."""
    u = torch.cat([normal(1, 60), 1e6 * normal(1, 40, seed=1)], dim=1)
    x = received(algorithm(name), u, two_tensors(60, 40))
    assert 0.1 < float(x[:60].abs().max() / u[0, :60].abs().max()) < 20


def test_one_norm_for_the_whole_vector():
    u = torch.cat([normal(1, 60), 1e6 * normal(1, 40, seed=1)], dim=1)
    x = received(algorithm("fedpaq", per_tensor=False), u, two_tensors(60, 40))
    length = float(torch.linalg.vector_norm(u))
    assert set((x.abs() / length).round(decimals=4).tolist()) == {0.0, 1.0}


def test_terngrad_is_qsgd_of_one_level_and_the_largest_magnitude():
    u = normal(4, 100)
    layout = two_tensors(60, 40)
    assert torch.equal(
        received(algorithm("terngrad", weighting="uniform"), u, layout),
        received(algorithm("fedpaq", norm="linf", levels=1), u, layout),
    )


def test_terngrad_keeps_support_and_signs():
    u = normal(1, 1000)
    u[:, ::3] = 0
    x = received(algorithm("terngrad"), u)
    assert ((x == 0) | (x.sign() == u[0].sign())).all()
    assert set(x.abs().tolist()) == {0.0, float(u.abs().max())}


def test_eden_of_one_bit_is_drive_with_the_unbiased_scale():
    u = normal(4, 1000)
    eden, drive = algorithm("eden", bits=1), algorithm("drive", scale="unbiased")
    assert torch.equal(received(eden, u), received(drive, u))
    assert not torch.equal(received(eden, u), received(algorithm("drive"), u))


def test_many_levels_and_all_entries_are_fedavg(consensus):
    """FedPAQ(s → ∞) → FedAvg; top-k of everything is FedAvg to the bit of what is sent."""
    y = np.random.default_rng(2).normal(size=(9, 20))
    given = ("local.steps=5", "cohort=4", "rounds=8")
    _, fedavg = consensus(y, "algorithm=fedavg", *given)
    _, topk = consensus(y, "algorithm=topk", "algorithm.ratio=1", *given)
    np.testing.assert_allclose(topk, fedavg, atol=1e-6)
    for norm in ("l2", "linf"):
        _, fedpaq = consensus(y, "algorithm=fedpaq", "algorithm.levels=32767", f"algorithm.norm={norm}", *given)
        np.testing.assert_allclose(fedpaq, fedavg, atol=1e-3)


@pytest.mark.parametrize("case", ["fedpaq", "fedpaq algorithm.norm=linf algorithm.levels=2", "terngrad", "eden"])
def test_unbiased_methods_are_fedavg_in_expectation(consensus, case):
    """Clients that hold the same y are independent draws: their mean is FedAvg's, to five standard errors."""
    n, d = 400, 256
    y = np.repeat(np.random.default_rng(3).normal(size=(1, d)), n, axis=0)
    given = ("rounds=1", "local.steps=5", f"cohort={n}")
    _, x = consensus(y, *split(case), *given)
    _, fedavg = consensus(y, "algorithm=fedavg", *given)
    square, largest = np.sum(fedavg**2), np.abs(fedavg).max()
    length = np.sqrt(square)
    variance = {
        "fedpaq": length * np.abs(fedavg).sum() - square,
        "terngrad": largest * np.abs(fedavg).sum() - square,
        "eden": (math.pi / 2 - 1) * square,
    }.get(case)
    if variance is None:
        p = (2 * np.abs(fedavg) / largest) % 1
        variance = (largest / 2) ** 2 * np.sum(p * (1 - p))
    expected = variance / n  # of ‖x − FedAvg‖², a sum of d errors
    assert abs(np.sum((x - fedavg) ** 2) - expected) < 5 * expected * math.sqrt(2 / d) * 1.5


@pytest.mark.parametrize("name", METHODS)
def test_clients_are_weighted_by_their_samples(name):
    """Two clients of opposite updates of one magnitude, which every compressor sends up to a factor."""
    method = algorithm(name, weighting="samples", **({"ratio": 1.0} if name == "topk" else {}))
    u = torch.ones(2, 1)
    u[1] = -1
    local = Given(-u)
    local.layout = flat(1)
    uplink, _ = method.client(send(x=torch.zeros(1)), {}, local, streams([0, 1]))
    factors = [method.codec(flat(1)).decode([row], 1).item() for row in uplink["u"]]
    x = method.server({"x": torch.zeros(1)}, uplink, round_of(2, 1, samples=[30, 10]))["x"]
    assert x.item() == pytest.approx(0.75 * factors[0] + 0.25 * factors[1])


@pytest.mark.parametrize("order", [[4, 0, 6, 2, 5, 1, 3]])
@pytest.mark.parametrize("name", METHODS)
def test_order_of_the_cohort_does_not_matter(name, order):
    method, u, d = algorithm(name), normal(7, 300), 300
    local = Given(-u)
    local.layout = flat(d)
    uplink, _ = method.client(send(x=torch.zeros(d)), {}, local, streams(range(7)))
    permuted = {"u": [uplink["u"][i] for i in order]}
    x, y = (method.server({"x": torch.zeros(d)}, sent, round_of(7, d))["x"] for sent in (uplink, permuted))
    np.testing.assert_allclose(x, y, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_client_sends_the_same_whoever_is_beside_it(name):
    """However the cohort is cut into chunks."""
    method, u = algorithm(name), normal(5, 300)

    def sent(rows):
        local = Given(-u[rows])
        local.layout = flat(300)
        return method.client(send(x=torch.zeros(300)), {}, local, streams(rows))[0]["u"]

    together = sent([0, 1, 2, 3, 4])
    for i in range(5):
        assert torch.equal(sent([i])[0], together[i])


def test_a_tensor_that_did_not_move_is_sent_as_zero():
    u = torch.cat([torch.zeros(2, 128), normal(2, 64)], dim=1)
    for name in METHODS:
        x = received(algorithm(name), u, two_tensors(128, 64))
        assert not x[:128].any()
        assert x[128:].any()


def test_entropy_coding_of_two_bit_eden_gains_what_its_centroids_allow():
    """H of the four cells of a standard normal is 1.911 bits."""
    u = normal(1, 2**17)
    local = Given(-u)
    local.layout = flat(2**17)
    method = algorithm("eden", bits=2, entropy_coding=True)
    uplink, _ = method.client(send(x=torch.zeros(2**17)), {}, local, streams([0]))
    assert 8 * len(uplink["u"][0]) / 2**17 == pytest.approx(1.911, abs=0.01)


BAD = [
    ("topk", "ratio=0", "algorithm.ratio=0"),
    ("topk", "ratio=1.5", "algorithm.ratio=1.5"),
    ("topk", "ratio=-0.1", "algorithm.ratio=-0.1"),
    ("fedpaq", "levels=0", "algorithm.levels=0"),
    ("fedpaq", "levels=40000", "algorithm.levels=40000"),
    ("fedpaq", "norm=l1", "algorithm.norm=l1"),
    ("eden", "bits=5", "algorithm.bits=5"),
    ("drive", "scale=best", "algorithm.scale=best"),
    ("sign_update", "c=0", "algorithm.c=0"),
    ("terngrad", "server_lr=0", "algorithm.server_lr=0"),
    ("terngrad", "entropy_coding=1", "algorithm.entropy_coding=1"),
]


@pytest.mark.parametrize(("name", "override", "named"), BAD)
def test_bad_values_are_refused_in_one_line(resolved, name, override, named):
    with pytest.raises((ConfigError, HydraException), match=rf"^{named}: must be [^\n]+$"):
        Config(resolved(f"algorithm={name}", f"algorithm.{override}"))


@pytest.mark.parametrize("spoil", ["cut", "not finite"])
@pytest.mark.parametrize("name", METHODS)
def test_a_broken_payload_names_round_and_client(run, targets, monkeypatch, name, spoil):
    cls = type(algorithm(name))
    original = cls.server

    def server(self, server, uplink, round):
        if round.t == 2:
            row = uplink["u"][9].clone()
            at = 4 if name in ("drive", "eden") else 0  # the seed comes first, then floats
            row[at : at + 4] = torch.tensor([math.nan]).view(torch.uint8)
            uplink["u"][9] = uplink["u"][9][:-1] if spoil == "cut" else row
        return original(self, server, uplink, round)

    monkeypatch.setattr(cls, "server", server)
    with pytest.raises(FedsignError, match=r"^round 2, client 9: [^\n]+$"):
        run(f"algorithm={name}", *CONSENSUS, f"dataset.targets={targets}", "cohort=12", "rounds=3")


@pytest.mark.parametrize("name", METHODS)
def test_an_update_that_is_not_finite_is_not_sent(name):
    u = normal(3, 40)
    u[1, 7] = math.nan
    with pytest.raises(FedsignError, match="NaN or infinite") as error:
        received(algorithm(name), u)
    assert error.value.row == 1
