"""Messages of the methods with control variates, error feedback and adaptive servers: see test_messages."""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from toys import Watch, client_through_bytes, server_in_another_order, server_through_bytes, split

from fedsign.config import Config
from fedsign.errors import ConfigError, FedsignError
from fedsign.execution import executor, setup
from fedsign.execution.ranks import Ranks
from fedsign.execution.serial import SerialTraining
from fedsign.simulator import Simulator

D, TENSORS = 24_794, 8  # parameters of lenet_small on MNIST; ceil(log2 D) = 15
K = 1_239  # 5 % of D, rounded down
TOP = K * (32 + 15)
SIGNS = D + 32 * TENSORS

PLANE = 24_800  # D bits in whole bytes; where there are several planes, each is

# overrides: {part of the message: bits of a client}, by the paper's count
UPLINK = {
    "scaffold": {"Delta_y": 32 * D, "Delta_c": 32 * D},
    "scallion": {"delta": 4 * D + 32 * TENSORS},
    "scallion algorithm.levels=1": {"delta": 2 * D + 32 * TENSORS},
    "scallion algorithm.codec=identity": {"delta": 32 * D},
    "scafcom": {"delta": TOP},
    "scafcom algorithm.codec=sign": {"delta": SIGNS},
    "fedef": {"q": SIGNS},
    "fedef algorithm.sign_zero=zero": {"q": SIGNS + D},
    "fedef algorithm.codec=topk": {"q": TOP},
    "fedef algorithm.codec=topk algorithm.ratio=0.01": {"q": 247 * (32 + 15)},
    "fedef algorithm.codec=identity": {"q": 32 * D},
    "fedef algorithm.server=ams": {"q": SIGNS},
    "ef21": {"c": TOP},
    "ef21 algorithm.warm_start=true": {"g_0": 0, "c": TOP},  # of a client that took part before
    "ef_signsgd": {"p": SIGNS},
    "ef_signsgd algorithm.placement=worker": {"p": SIGNS},
    "ef_signsgd algorithm.placement=block": {"p": SIGNS},
    "fedams": {"Delta": 32 * D},
    "fedcams": {"Delta": D + 32},
    "fedcams algorithm.codec=topk": {"Delta": 387 * (32 + 15)},
}
HEAVY = "fedef algorithm.codec=heavy_sign algorithm.ratio=0.5"
CASES = [*UPLINK, HEAVY]
STATEFUL = [case for case in CASES if case not in ("fedams", "fedef algorithm.codec=identity")]  # of those e = 0
TWO_VECTORS = ("scaffold", "scallion", "scafcom")


@pytest.mark.parametrize("case", UPLINK)
def test_uplink_has_the_length_of_the_papers_count(run, case):
    out = run(*split(case), "model=lenet_small", "cohort=10", "dry_run=true")
    bits = json.loads((out / "summary.json").read_text())["bits_per_round"]
    planes = {"scallion": 4, "scallion algorithm.levels=1": 2, "fedef algorithm.sign_zero=zero": 2}.get(case)
    for part, counted in UPLINK[case].items():
        padded = 8 * math.ceil(counted / 8) if planes is None else counted + planes * (PLANE - D)
        assert bits["uplink_per_client"][part] == padded
    assert set(bits["uplink_per_client"]) == set(UPLINK[case])
    assert bits["uplink_formula"] == 10 * sum(UPLINK[case].values())
    vectors = 2 if case.split()[0] in TWO_VECTORS else 1
    assert sorted(bits["downlink_per_client"].values()) == [32 * D] * vectors


@pytest.mark.parametrize("ratio", [0.001, 0.05, 0.5])
def test_heavy_sign_takes_a_scale_of_every_tensor_it_hits(run, ratio):
    given = ("algorithm=fedef", "algorithm.codec=heavy_sign", f"algorithm.ratio={ratio}", "model=lenet_small")
    out = run(*given, "cohort=10", "dry_run=true")
    bits = json.loads((out / "summary.json").read_text())["bits_per_round"]
    k = int(ratio * D)
    most = 8 * math.ceil(15 * k / 8) + 8 * math.ceil(k / 8) + 32 * TENSORS
    assert bits["uplink_per_client"]["q"] in [most - 32 * missed for missed in range(TENSORS)]
    assert bits["uplink_formula"] == 10 * (16 * k + 32 * TENSORS)


@pytest.mark.parametrize("case", CASES)
def test_nothing_but_bytes_passes(consensus_run, patch, case):
    plain = consensus_run(case)
    patch(case, client=client_through_bytes, server=server_through_bytes)
    assert plain.tobytes() == consensus_run(case).tobytes()


@pytest.mark.parametrize("case", CASES)
def test_order_of_the_cohort_does_not_matter(consensus_run, patch, case):
    plain = consensus_run(case)
    patch(case, server=server_in_another_order)
    np.testing.assert_allclose(consensus_run(case), plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_chunks_of_the_cohort_do_not_matter(consensus_run, monkeypatch, case):
    plain = consensus_run(case)
    monkeypatch.setattr(executor, "CHUNK_VALUES", 3 * 7)  # three clients at a time
    assert plain.tobytes() == consensus_run(case).tobytes()


def watched(resolved, targets, *overrides):
    """A run of eight rounds on the consensus problem, watched."""
    given = ("dataset=consensus", "model=vector", "local.epochs=null", "local.steps=2", "rounds=8")
    config = Config(resolved(*given, f"dataset.targets={targets}", *overrides))
    simulator = Simulator(config, setup.build(config))
    seen = Watch(simulator)
    simulator.run(Ranks(), seen, seen, seen)
    return seen


@pytest.mark.parametrize("case", STATEFUL)
def test_absent_clients_keep_their_state(resolved, targets, case):
    seen = watched(resolved, targets, *split(case), "cohort=3")
    for (before, after), clients in zip(itertools.pairwise(seen.states), seen.cohorts, strict=True):
        changed = [i for i in range(12) if any(not torch.equal(before[k][i], after[k][i]) for k in before)]
        assert changed == clients


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("case", CASES)
def test_an_update_that_is_not_finite_names_round_and_client(consensus_run, monkeypatch, case, value):
    def spoil(result, training):
        if training.streams.round == 2 and 7 in training.clients:
            (result if isinstance(result, torch.Tensor) else result.y)[training.clients.index(7), 3] = value
        return result

    train, gradient = SerialTraining.train, SerialTraining.gradient
    monkeypatch.setattr(SerialTraining, "train", lambda self, x, **hooks: spoil(train(self, x, **hooks), self))
    monkeypatch.setattr(SerialTraining, "gradient", lambda self, x: spoil(gradient(self, x), self))
    with pytest.raises(FedsignError, match=r"^round 2, client 7: [^\n]*NaN or infinite[^\n]*$"):
        consensus_run(case, "cohort=12")


def cut(row):
    return row[:-1]


def longer(row):
    return torch.cat([row, row[-1:]])


def emptied(row):
    return row[:0]


def not_a_number(row):
    """The first float of every message: a value, a norm, a scale; of heavy signs the last."""
    row[:4] = row[-4:] = torch.tensor([0, 0, 192, 127], dtype=torch.uint8)
    return row


def negative(row):
    row[3] |= 128  # the sign of the first float
    return row


MESSAGES = [(case, part) for case, parts in {**UPLINK, HEAVY: ["q"]}.items() for part in parts if part != "g_0"]
TAMPERED = [(*message, spoil) for message in MESSAGES for spoil in (cut, longer, emptied, not_a_number)]
TAMPERED += [(case, part, negative) for case, part in MESSAGES if part == "p" or case in ("fedef", "fedcams")]


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


@pytest.mark.parametrize("part", ["g_0", "c"])
def test_a_warm_start_takes_one_of_two_parts(consensus_run, patch, part):
    """In round 1 all send g_0 and in round 2 all send c; a client that sends both is named."""

    def server(original):
        def wrapped(self, server, uplink, round):
            if (round.t == 1) == (part == "c"):
                uplink[part][9] = torch.zeros(4, dtype=torch.uint8)
            return original(self, server, uplink, round)

        return wrapped

    patch("ef21", server=server)
    with pytest.raises(FedsignError, match=r"^round \d, client 9: \d+ bytes of g_0 and \d+ of c; expected one"):
        consensus_run("ef21 algorithm.warm_start=true", "cohort=12")


def test_a_warm_start_is_sent_in_full_once(run, targets):
    """Seven values, ratio 0.3: 28 bytes at a client's first participation, later two values and six bits of indices."""
    given = ("dataset=consensus", "model=vector", "local.epochs=null", "local.steps=2", "rounds=8", "cohort=5")
    out = run(
        "algorithm=ef21", "algorithm.warm_start=true", "algorithm.ratio=0.3", *given, f"dataset.targets={targets}"
    )
    seen: set[str] = set()
    expected, bits = [], 0
    for cohort in pd.read_csv(out / "cohorts.csv")["clients"]:
        clients = set(cohort.split())
        bits += 32 * 7 * len(clients - seen) + 8 * 9 * len(clients & seen)
        seen |= clients
        expected.append(bits)
    assert len(seen) > 5  # some came later than round 1
    metrics = pd.read_csv(out / "metrics.csv")
    assert list(metrics["uplink_bits"]) == expected
    assert list(metrics["uplink_bits_formula"]) == [t * 5 * 2 * (32 + 3) for t in range(1, 9)]


@pytest.mark.parametrize("cohort", [12, 5])
def test_block_placement_sends_a_compressed_step_where_nobody_can_have_missed_one(run, targets, cohort):
    """Seven values: the model in the first round, a scale and seven signs after it; always the model to a sample."""
    given = ("dataset=consensus", "model=vector", "local.epochs=null", "local.steps=1", "rounds=4")
    out = run(
        "algorithm=ef_signsgd", "algorithm.placement=block", *given, f"dataset.targets={targets}", f"cohort={cohort}"
    )
    later = 32 + 8 if cohort == 12 else 32 * 7
    expected = [cohort * (32 * 7 + t * later) for t in range(4)]
    assert list(pd.read_csv(out / "metrics.csv")["downlink_bits"]) == expected


@pytest.mark.parametrize("placement", ["server", "worker"])
def test_other_placements_send_the_model(run, targets, placement):
    given = ("dataset=consensus", "model=vector", "local.epochs=null", "local.steps=1", "rounds=3", "cohort=12")
    out = run("algorithm=ef_signsgd", f"algorithm.placement={placement}", *given, f"dataset.targets={targets}")
    assert list(pd.read_csv(out / "metrics.csv")["downlink_bits"]) == [12 * 32 * 7 * t for t in (1, 2, 3)]


def test_clients_of_block_placement_keep_the_servers_model_bit_for_bit(resolved, targets):
    seen = watched(resolved, targets, "algorithm=ef_signsgd", "algorithm.placement=block", "cohort=12")
    for server, states in zip(seen.servers, seen.states[1:], strict=False):
        assert torch.equal(states["x"], server["x"].expand(12, -1))


@pytest.mark.parametrize("case", CASES)
def test_attackers_write_legal_messages_in_place_of_their_own(consensus_run, case):
    plain = consensus_run(case)
    few = consensus_run(case, "attack=sign_flip", "attack.clients=3")
    assert np.isfinite(few).all()
    assert np.abs(few - plain).max() > 1e-3


REFUSED = [
    ("scallion algorithm.codec=topk", "algorithm.codec=topk: must be one of qsgd, identity"),
    ("scallion algorithm.alpha=0", "algorithm.alpha=0: must be a number in (0, 1]"),
    ("scallion algorithm.levels=0", "algorithm.levels=0: must be an integer >= 1"),
    ("scafcom algorithm.codec=qsgd", "algorithm.codec=qsgd: must be one of topk, sign, heavy_sign, identity"),
    ("fedef algorithm.codec=top_k", "algorithm.codec=top_k: must be one of topk, sign, heavy_sign, identity"),
    ("fedef algorithm.server=adam", "algorithm.server=adam: must be one of sgd, ams"),
    ("fedef algorithm.ratio=0", "algorithm.ratio=0: must be a number in (0, 1]"),
    ("fedef algorithm.ratio=1.5", "algorithm.ratio=1.5: must be a number in (0, 1]"),
    ("fedef algorithm.sign_zero=minus", "algorithm.sign_zero=minus: must be one of plus, random, zero"),
    ("ef21 algorithm.warm_start=1", "algorithm.warm_start=1: must be true or false"),
    ("ef_signsgd algorithm.placement=client", "algorithm.placement=client: must be one of server, worker, block"),
    ("ef_signsgd algorithm.momentum=1", "algorithm.momentum=1: must be a number in [0, 1)"),
    ("fedams algorithm.eps=0", "algorithm.eps=0: must be a number > 0"),
    ("fedcams algorithm.codec=heavy_sign", "algorithm.codec=heavy_sign: must be one of sign, topk, identity"),
]


@pytest.mark.parametrize(("case", "message"), REFUSED)
def test_values_that_the_method_cannot_run_are_refused(resolved, case, message):
    with pytest.raises(ConfigError) as caught:
        Config(resolved(*split(case)))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("local", ["optimizer=adam", "optimizer=lion", "momentum=0.9"])
@pytest.mark.parametrize("method", TWO_VECTORS)
def test_control_variates_need_plain_sgd(resolved, method, local):
    given = r"local\.optimizer=\w+ local\.momentum=[\d.]+"
    with pytest.raises(ConfigError, match=rf"^{given}: algorithm={method} takes plain SGD steps; use sgd and 0$"):
        Config(resolved(f"algorithm={method}", f"local.{local}"))
