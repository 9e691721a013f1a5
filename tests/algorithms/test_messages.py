"""What clients and server send each other: its length, that it is all that passes, and what happens if it is broken."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from toys import Watch, client_through_bytes, server_in_another_order, server_through_bytes, split

from fedsign.config import Config
from fedsign.errors import FedsignError
from fedsign.execution import setup
from fedsign.execution.ranks import Ranks
from fedsign.execution.serial import SerialTraining
from fedsign.simulator import Simulator

D = 24_794  # parameters of lenet_small on MNIST; weights alone 24 680, biases 114
PLANE = 24_800  # D bits in whole bytes
CONSENSUS = ("dataset=consensus", "model=vector", "local.epochs=null", "local.steps=2")

# overrides: {part of the message: bits of a client}, by the paper's count
UPLINK = {
    "fedavg": {"Delta": 32 * D},
    "fedsmu": {"u": PLANE},
    "fedsmu algorithm.sign_zero=plus": {"u": PLANE},
    "fedsmu algorithm.sign_zero=zero": {"u": 2 * PLANE},
    "fedsmu algorithm.aggregate=majority": {"u": PLANE},
    "fedsmu algorithm.bits=3": {"u": 3 * PLANE},
    "fedsmu algorithm.bits=8": {"u": 8 * PLANE},
    "fedsmu algorithm.bits=32": {"u": 32 * D},
    "fedsmumc": {"u": PLANE, "m": 32 * D},
    "fedsmumc algorithm.sign_zero=zero": {"u": 2 * PLANE, "m": 32 * D},
    "fed_locallion": {"Delta": 32 * D},
    "fed_globallion": {"g": 32 * D},
    "zsign": {"Delta": PLANE},
    "zsign algorithm.sign_zero=zero": {"Delta": 2 * PLANE},
    "signsgd": {"s": PLANE},
    "signsgd algorithm.sign_zero=zero": {"s": 2 * PLANE},
    "sgdm": {"g": 32 * D},
    "dlion": {"delta": PLANE},
    "dlion algorithm.aggregate=majority algorithm.sign_zero=zero": {"delta": 2 * PLANE},
    "mv_sto_signsgd": {"s": PLANE},
    "mv_sto_signsgd algorithm.local_steps=3 algorithm.sign_zero=zero": {"s": PLANE},
    "sto_signsgd": {"s": PLANE},
}
METHODS = ("fedavg", "fedsmu", "fedsmumc", "fed_locallion", "fed_globallion", "zsign", "signsgd", "sgdm")
METHODS += ("dlion", "mv_sto_signsgd", "sto_signsgd")
COUNTED = ("fedsmu", "fedsmu algorithm.aggregate=majority", "fedsmu algorithm.sign_zero=zero", "zsign", "signsgd")
COUNTED += ("dlion algorithm.sync=false", "mv_sto_signsgd", "mv_sto_signsgd algorithm.local_steps=3", "sto_signsgd")
SUMMED = (
    "fedavg",
    "fedsmu algorithm.bits=3",
    "fedsmu algorithm.bits=32",
    "fedsmumc",
    "fed_locallion",
    "sgdm",
    "fedlion",
)


def sizes(run, *overrides):
    return json.loads((run(*overrides, "dry_run=true") / "summary.json").read_text())["bits_per_round"]


@pytest.mark.parametrize("case", UPLINK)
def test_uplink_has_the_length_of_the_papers_count(run, case):
    bits = sizes(run, *split(case), "model=lenet_small", "cohort=10")
    assert bits["uplink_per_client"] == UPLINK[case]
    assert bits["uplink"] == 10 * sum(UPLINK[case].values())
    padding = sum(sent % D for sent in UPLINK[case].values())
    assert bits["uplink_formula"] == bits["uplink"] - 10 * padding


@pytest.mark.parametrize("method", METHODS)
def test_downlink_is_full_precision(run, method):
    bits = sizes(run, f"algorithm={method}", "model=lenet_small", "cohort=10")
    vectors = 2 if method == "fedsmumc" else 1
    assert sorted(bits["downlink_per_client"].values()) == [32 * D] * vectors
    assert bits["downlink"] == 10 * vectors * 32 * D


@pytest.mark.parametrize("method", METHODS)
def test_tensors_that_are_not_coded_are_counted_in_full_precision(run, method):
    every = sizes(run, f"algorithm={method}", "model=lenet_small", "cohort=10")
    bits = sizes(run, f"algorithm={method}", "model=lenet_small", "cohort=10", "algorithm.codes=weights")
    coded = [24_680 if sent == PLANE else 32 * 24_680 for sent in every["uplink_per_client"].values()]  # whole bytes
    assert sorted(bits["uplink_per_client"].values()) == sorted([*coded, 32 * 114])
    assert bits["uplink"] == bits["uplink_formula"] == 10 * (sum(coded) + 32 * 114)
    vectors = 24_680 * (2 if method == "fedsmumc" else 1) + 114
    assert bits["downlink"] == 10 * 32 * vectors


@pytest.mark.parametrize("case", UPLINK)
def test_metrics_add_up_what_every_client_sent(run, targets, case):
    """Seven values: a plane takes one byte, of which the paper counts seven bits."""
    out = run(*split(case), *CONSENSUS, f"dataset.targets={targets}", "cohort=7", "rounds=3")
    planes, floats = (
        sum(sent // unit for sent in UPLINK[case].values() if sent % unit == 0) for unit in (PLANE, 32 * D)
    )
    metrics = pd.read_csv(out / "metrics.csv")
    assert list(metrics["uplink_bits"]) == [t * 7 * (8 * planes + 32 * 7 * floats) for t in (1, 2, 3)]
    assert list(metrics["uplink_bits_formula"]) == [t * 7 * (7 * planes + 32 * 7 * floats) for t in (1, 2, 3)]
    assert list(metrics["downlink_bits"]) == [t * 7 * 32 * 7 * (2 if "fedsmumc" in case else 1) for t in (1, 2, 3)]


@pytest.mark.parametrize("method", METHODS)
def test_metrics_count_the_tensors_that_are_not_coded(run, method):
    """The MLP 64-64-64-10: its 8 832 weights fill whole bytes, its 138 biases are sent as floats both ways."""
    given = ("dataset=digits", "model=mlp", "clients=10", "cohort=4", "rounds=2", "local.epochs=1")
    metrics = pd.read_csv(run(f"algorithm={method}", "algorithm.codes=weights", *given) / "metrics.csv")
    coded = sum(8832 if sent == PLANE else 32 * 8832 for sent in UPLINK[method].values())
    vectors = 2 if method == "fedsmumc" else 1
    assert list(metrics["uplink_bits"]) == [4 * t * (coded + 32 * 138) for t in (1, 2)]
    assert list(metrics["uplink_bits_formula"]) == list(metrics["uplink_bits"])
    assert list(metrics["downlink_bits"]) == [4 * t * 32 * (8832 * vectors + 138) for t in (1, 2)]


@pytest.mark.parametrize("method", METHODS)
def test_tensors_that_are_not_coded_are_trained(run, resolved, method):
    given = ("dataset=digits", "model=mlp", "clients=10", "cohort=4", "rounds=1", "local.epochs=1", "local.lr=0.5")
    overrides = (f"algorithm={method}", "algorithm.codes=weights", *given)
    built = setup.build(Config(resolved(*overrides)))
    start, end = built.layout.named(built.initial), np.load(run(*overrides) / "model.npz")
    for name, tensor in start.items():
        assert not np.array_equal(tensor.numpy(), end[name])


@pytest.mark.parametrize("method", METHODS)
def test_nothing_but_bytes_passes(consensus_run, patch, method):
    plain = consensus_run(method)
    patch(method, client=client_through_bytes, server=server_through_bytes)
    assert plain.tobytes() == consensus_run(method).tobytes()


@pytest.mark.parametrize("case", [*COUNTED, *SUMMED])
def test_order_of_the_cohort_does_not_matter(consensus_run, patch, case):
    """Not by a bit where votes are counted, to rounding where floats are added."""
    plain = consensus_run(case)
    patch(case, server=server_in_another_order)
    np.testing.assert_allclose(consensus_run(case), plain, rtol=0, atol=0 if case in COUNTED else 1e-6)


STATEFUL = ("dlion", "dlion algorithm.sync=false", "mv_sto_signsgd algorithm.local_steps=2", "sto_signsgd")


@pytest.mark.parametrize("case", ["fedsmu", "fed_locallion", "signsgd algorithm.theta=0.9", *STATEFUL])
def test_absent_clients_keep_their_state(resolved, targets, case):
    given = (*split(case), *CONSENSUS, f"dataset.targets={targets}", "cohort=3", "rounds=8")
    config = Config(resolved(*given))
    simulator = Simulator(config, setup.build(config))
    seen = Watch(simulator)
    simulator.run(Ranks(), seen, seen, seen)
    for (before, after), clients in zip(itertools.pairwise(seen.states), seen.cohorts, strict=True):
        changed = [i for i in range(12) if any(not torch.equal(before[k][i], after[k][i]) for k in before)]
        assert changed == clients


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("method", METHODS)
def test_an_update_that_is_not_finite_names_round_and_client(consensus_run, monkeypatch, method, value):
    def spoil(result, training):
        if training.streams.round == 2 and 7 in training.clients:
            (result if isinstance(result, torch.Tensor) else result.y)[training.clients.index(7), 3] = value
        return result

    train, gradient = SerialTraining.train, SerialTraining.gradient
    monkeypatch.setattr(SerialTraining, "train", lambda self, x, **hooks: spoil(train(self, x, **hooks), self))
    monkeypatch.setattr(SerialTraining, "gradient", lambda self, x: spoil(gradient(self, x), self))
    with pytest.raises(FedsignError, match=r"^round 2, client 7: [^\n]*NaN or infinite[^\n]*$"):
        consensus_run(method, "cohort=12")


def test_a_client_that_diverges_is_named(consensus_run, targets):
    y = np.load(targets)
    y[4] = 1e38
    np.save(targets, y)
    with pytest.raises(FedsignError, match=r"^round 1, client 4: "):
        consensus_run("fedavg", "cohort=12", "local.lr=100")


@pytest.mark.parametrize("method", ["fedavg", "sgdm"])
def test_a_global_model_that_overflows_names_the_round(consensus_run, method):
    """Every client's update is finite, and the server's step is too large for float32."""
    with pytest.raises(FedsignError, match=r"^round \d"):
        consensus_run(method, "algorithm.server_lr=3e38", "local.lr=1")


def cut(row):
    return row[:-1]


def not_a_number(row):
    row[-4:] = torch.tensor([0, 0, 192, 127], dtype=torch.uint8)
    return row


def pad(row):
    row[-1] |= 1  # the eighth bit of a plane of seven
    return row


MESSAGES = [(case, part, sent) for case, parts in UPLINK.items() for part, sent in parts.items()]
TAMPERED = [(case, part, cut) for case, part, _ in MESSAGES if case in METHODS]
TAMPERED += [(case, part, not_a_number if sent == 32 * D else pad) for case, part, sent in MESSAGES]


@pytest.mark.parametrize(("case", "part", "spoil"), TAMPERED)
def test_a_broken_payload_names_round_and_client(consensus_run, patch, case, part, spoil):
    def server(original):
        def wrapped(self, server, uplink, round):
            if round.t == 2:
                uplink[part][9] = spoil(uplink[part][9].clone())
            return original(self, server, uplink, round)

        return wrapped

    patch(case, server=server)
    with pytest.raises(FedsignError, match=r"^round 2, client 9: [^\n]+$"):
        consensus_run(case, "cohort=12")
