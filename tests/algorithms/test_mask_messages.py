"""What FedVote, FedMRN and the model compressors send: its length, and what happens if it is broken."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from toys import client_through_bytes, server_in_another_order, server_through_bytes, split

from fedsign.errors import FedsignError
from fedsign.execution import executor
from fedsign.execution.serial import SerialTraining

D = 24_794  # parameters of lenet_small on MNIST; weights alone 24 680, biases 114
WEIGHTS = 24_680
Q = 25 * 4 + 25 * 4 * 8 + 8 * 49 * 16  # weights of the small LeNet-5 below, the last layer's left out
LENET5 = "model=lenet5 model.channels=[4,8] model.hidden=16"
CONSENSUS = ("dataset=consensus", "model=vector", "local.epochs=null", "local.steps=2")


def bytes_of(bits):
    return 8 * -(-bits // 8)


def sparse(k, d):
    """k values, and the shorter of an index of ceil(log2 d) bits each and a bitmap."""
    return 32 * k + min(k * int(np.ceil(np.log2(d))), d)


# overrides: (part, bits of a client by the paper's count or planes of them, values that the method codes, downlink)
UPLINK = {
    f"fedvote {LENET5}": ("w", Q, Q, {"p": 32 * Q}),
    f"fedvote {LENET5} algorithm.vote=reputation": ("w", Q, Q, {"p": 32 * Q}),
    f"fedvote {LENET5} algorithm.levels=3": ("w", (Q, Q), Q, {"p": 32 * Q}),
    "fedmrn": ("m", WEIGHTS + 64, WEIGHTS, {"x": 32 * WEIGHTS, "tail": 32 * 114}),
    "fedmrn algorithm.mask=signed": ("m", WEIGHTS + 64, WEIGHTS, {"x": 32 * WEIGHTS, "tail": 32 * 114}),
    "fedmrn algorithm.codes=all": ("m", D + 64, D, {"x": 32 * D}),
    "fedpm": ("m", D, D, {"theta": 32 * D, "seed": 64}),
    "fedmask": ("m", D, D, {"theta": 32 * D, "seed": 64}),
    "hidenseek": ("m", D // 2, D, {"theta": 32 * (D // 2), "seed": 64}),
    "hidenseek algorithm.sparsity=0.9": ("m", D - int(0.9 * D), D, {"theta": 32 * (D - int(0.9 * D)), "seed": 64}),
    "fedsparsify": ("y", sparse(D - int(0.97 * D), D), D, None),
    "fedsparsify algorithm.sparsity=0.5": ("y", sparse(D - D // 2, D), D, None),
}
METHODS = ("fedvote", "fedmrn", "fedpm", "fedmask", "hidenseek", "fedsparsify")
PARTS = {"fedvote": "w", "fedsparsify": "y"}  # the others send "m"
VARIANTS = (
    *METHODS, "fedvote algorithm.levels=3", "fedvote algorithm.vote=reputation", "fedmrn algorithm.mask=signed",
    "fedmrn algorithm.after_training=true", "fedsparsify algorithm.sparsity=0.5 algorithm.prune=server",
)  # fmt: skip
COUNTED = ("fedvote", "fedvote algorithm.levels=3", "fedpm", "fedmask", "hidenseek")


@pytest.mark.parametrize("case", UPLINK)
def test_uplink_has_the_length_of_the_papers_count(run, case):
    part, planes, coded, downlink = UPLINK[case]
    planes = planes if isinstance(planes, tuple) else (planes,)
    padded = sum(bytes_of(plane) for plane in planes)
    overrides = split(case) if "model=" in case else [*split(case), "model=lenet_small"]
    out = run(*overrides, "cohort=10", "rounds=1", "dry_run=true")
    summary = json.loads((out / "summary.json").read_text())
    bits = summary["bits_per_round"]
    tail = bits["uplink_per_client"].pop("tail", 0)
    assert summary["coded"] == coded
    assert bits["uplink_per_client"] == {part: padded}
    assert bits["uplink_formula"] == pytest.approx(10 * (sum(planes) + tail))
    assert bits["uplink"] == 10 * (padded + tail)
    if downlink is not None:
        assert bits["downlink_per_client"] == downlink


def test_frozen_tensors_are_named_and_not_counted(run):
    out = run(*split(f"fedvote {LENET5}"), "dry_run=true")
    summary = json.loads((out / "summary.json").read_text())
    frozen = {t["name"]: t["shape"] for t in summary["tensors"] if t["part"] == "frozen"}
    assert frozen == {"fc2.weight": [10, 16], "fc2.bias": [10]}
    assert (summary["parameters"], summary["coded"], summary["dense"]) == (Q, Q, 0)


@pytest.mark.parametrize("case", [c for c in VARIANTS if "fedsparsify" not in c])
def test_metrics_add_up_what_every_client_sent(run, targets, case):
    """Seven values: a mask takes one byte, of which the paper counts seven bits; HideNseek keeps four."""
    out = run(*split(case), *CONSENSUS, f"dataset.targets={targets}", "cohort=7", "rounds=3")
    metrics = pd.read_csv(out / "metrics.csv")
    planes = 2 if "levels=3" in case else 1
    seed = 64 if "fedmrn" in case else 0
    values = 4 if case == "hidenseek" else 7
    assert list(metrics["uplink_bits"]) == [t * 7 * (8 * planes + seed) for t in (1, 2, 3)]
    assert list(metrics["uplink_bits_formula"]) == [t * 7 * (values * planes + seed) for t in (1, 2, 3)]
    down = 32 * values + (64 if case in ("fedpm", "fedmask", "hidenseek") else 0)
    assert list(metrics["downlink_bits"]) == [t * 7 * down for t in (1, 2, 3)]


@pytest.mark.parametrize("case", VARIANTS)
def test_nothing_but_bytes_passes(consensus_run, patch, case):
    plain = consensus_run(case)
    patch(case, client=client_through_bytes, server=server_through_bytes)
    assert plain.tobytes() == consensus_run(case).tobytes()


@pytest.mark.parametrize("case", VARIANTS)
def test_the_order_of_the_cohort_does_not_matter(consensus_run, patch, case):
    """Not by a bit where votes are counted, to rounding where floats are added."""
    plain = consensus_run(case)
    patch(case, server=server_in_another_order)
    np.testing.assert_allclose(consensus_run(case), plain, rtol=0, atol=0 if case in COUNTED else 1e-6)


@pytest.mark.parametrize("case", VARIANTS)
def test_the_split_of_the_cohort_does_not_matter(consensus_run, monkeypatch, case):
    together = consensus_run(case)
    monkeypatch.setattr(executor, "CHUNK_VALUES", 14)  # two clients of seven values
    assert consensus_run(case).tobytes() == together.tobytes()


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("case", VARIANTS)
def test_training_that_is_not_finite_names_round_and_client(consensus_run, monkeypatch, case, value):
    def train(self, x, **hooks):
        result = original(self, x, **hooks)
        if self.streams.round == 2 and 7 in self.clients:
            result.y[self.clients.index(7)] = value
        return result

    original = SerialTraining.train
    monkeypatch.setattr(SerialTraining, "train", train)
    with pytest.raises(FedsignError, match=r"^round 2, client 7: [^\n]*NaN or infinite[^\n]*$"):
        consensus_run(case, "cohort=12")


def cut(row):
    return row[:-1]


def pad(row):
    row[-1] |= 1  # the eighth bit of seven, or of four
    return row


def not_a_number(row):
    row[:4] = torch.tensor([0, 0, 192, 127], dtype=torch.uint8)
    return row


TAMPERED = [(case, spoil) for case in VARIANTS for spoil in (cut, not_a_number if "sparsify" in case else pad)]


@pytest.mark.parametrize(("case", "spoil"), TAMPERED)
def test_a_broken_payload_names_round_and_client(consensus_run, patch, case, spoil):
    part = PARTS.get(case.split()[0], "m")

    def server(original):
        def wrapped(self, server, uplink, round):
            if round.t == 2:
                uplink[part][9] = spoil(uplink[part][9].clone())
            return original(self, server, uplink, round)

        return wrapped

    patch(case, server=server)
    with pytest.raises(FedsignError, match=r"^round 2, client 9: [^\n]+$"):
        consensus_run(case, "cohort=12")


@pytest.mark.parametrize("case", VARIANTS)
def test_a_resumed_run_ends_as_an_uninterrupted_one(consensus_run, patch, tmp_path, case):
    whole = consensus_run(case)
    fails = [True]

    def server(original):
        def wrapped(self, server, uplink, round):
            if round.t == 4 and fails.pop():
                raise FedsignError("interrupted")
            return original(self, server, uplink, round)

        return wrapped

    patch(case, server=server)
    given = (case, f"output={tmp_path / 'resumed'}", "checkpoint.every=1")
    with pytest.raises(FedsignError, match="interrupted"):
        consensus_run(*given)
    fails.append(False)
    assert consensus_run(*given).tobytes() == whole.tobytes()
