"""algorithm.entropy_coding, wherever there is the key: the same run to the bit, in fewer bits or a byte a row more."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hydra.utils import get_class
from toys import algorithm, flat, round_of, split, streams

from fedsign import presets
from fedsign.config import Config
from fedsign.errors import ConfigError, FedsignError

DIGITS = ("dataset=digits", "model=mlp", "model.hidden=[32]", "clients=10", "cohort=4", "rounds=2", "local.epochs=1")
LENET5 = ("dataset=mnist5k", "model=lenet5", "model.channels=[4,8]", "model.hidden=16", "clients=50", *DIGITS[4:])

# overrides: most uplink bits over those without, where symbols are not equally likely
CASES = {
    "fedpaq": 0.7,
    "terngrad": 0.7,
    "drive": None,
    "eden": None,
    "sign_update": None,
    "fedsmu": None,
    "fedsmu algorithm.bits=3": 0.8,
    "fedsmu algorithm.bits=8": None,
    "fedsmu algorithm.sign_zero=zero": 0.8,  # pixels that are always zero, and three symbols in two bits
    "fedsmumc": None,
    "zsign": None,
    "signsgd algorithm.sign_zero=zero": 0.8,
    "sto_signsgd": None,
    "mv_sto_signsgd": None,
    "fedlion": 1.0,  # beside a momentum in full
    "dlion": None,
    "dlion algorithm.sync=false": None,
    "fedef": None,
    "fedef algorithm.sign_zero=zero": 0.8,
    "fedcams": None,
    "ef21 algorithm.codec=sign": None,
    "ef21 algorithm.codec=sign algorithm.warm_start=true": None,
    "ef_signsgd": None,
    "ef_signsgd algorithm.placement=block": None,
    "scallion": 0.7,
    "scafcom algorithm.codec=sign": None,
    "fedmrn": None,
    "fedmrn algorithm.mask=signed": None,
    "fedpm": None,  # half of all masks are one
    "fedmask": None,
    "hidenseek": None,
    "fedvote": None,  # as many weights are positive as negative
    "fedvote algorithm.levels=3": 0.9,
    "fedvote algorithm.vote=reputation": None,
}
NOT_SKEWED = ("drive", "eden", "sign_update")  # rotated, or drawn: fair whatever is sent


def given(case):
    return (*split(case), *(LENET5 if "fedvote" in case else DIGITS))


@pytest.fixture
def outcome(run):
    """``outcome("fedpm", "attack=opposite")``: the model's tensors and metrics.csv."""

    def go(case, *more):
        out = run(*given(case), *more)
        with np.load(out / "model.npz") as model:
            return {name: model[name] for name in model.files}, pd.read_csv(out / "metrics.csv")

    return go


def test_every_method_that_has_the_key_is_tested():
    files = (presets.conf_folder() / "algorithm").glob("*.yaml")
    assert {case.split()[0] for case in CASES} == {f.stem for f in files if "\nentropy_coding:" in f.read_text()}


@pytest.mark.parametrize("case", CASES)
def test_entropy_coding_changes_the_bits_and_nothing_else(outcome, case):
    plain, coded = (outcome(case, f"algorithm.entropy_coding={on}") for on in ("false", "true"))
    assert all(plain[0][name].tobytes() == tensor.tobytes() for name, tensor in coded[0].items())
    before, after = (metrics["uplink_bits"] for _, metrics in (plain, coded))
    assert (after <= before + 8 * 4 * plain[1]["round"]).all()  # a byte a client
    assert list(plain[1]["uplink_bits_formula"]) == list(coded[1]["uplink_bits_formula"])
    if (share := CASES[case]) is not None:
        assert after.iloc[-1] < share * before.iloc[-1]


def codec_of(case, on, d):
    """The codec of the symbols that a method sends."""
    keys = dict(item.removeprefix("algorithm.").split("=") for item in split(case)[1:])
    method = algorithm(case.split()[0], **{k: yaml.safe_load(v) for k, v in keys.items()}, entropy_coding=on)
    codec = next(iter(method.message({}, dataclasses.replace(round_of(1, d), layout=flat(d))).values()))
    return codec[0] if isinstance(codec, list) else codec


@pytest.mark.parametrize("case", [case for case in CASES if case not in NOT_SKEWED])
def test_messages_of_unlike_symbols_are_shorter(case):
    d = 20_000
    v = torch.where(torch.arange(d) % 50 == 0, 1.0, -1.0)[None] * (
        "fedmrn" not in case
    )  # no update masks all its noise
    plain, coded = (codec_of(case, on, d) for on in (False, True))
    rows = [codec.write(v, streams([0])) for codec in (plain, coded)]
    assert len(rows[1][0]) < 0.5 * len(rows[0][0])
    assert torch.equal(plain.decode(rows[0], d), coded.decode(rows[1], d))


@pytest.mark.parametrize("name", ["opposite", "gaussian"])
@pytest.mark.parametrize("case", CASES)
def test_attackers_write_the_same_messages_coded(outcome, case, name):
    attacked = (f"attack={name}", "attack.clients=4")
    plain, coded = (outcome(case, *attacked, f"algorithm.entropy_coding={on}") for on in ("false", "true"))
    assert all(plain[0][name].tobytes() == tensor.tobytes() for name, tensor in coded[0].items())


def cut(row):
    return row[:-1]


def retag(row):
    row[0] = 2
    return row


def overstate(row):
    """Frequencies, or what precedes them, that cannot be; of a row that is sent as it is, a byte too many."""
    return torch.cat([row, row[:1]])


@pytest.mark.parametrize("spoil", [cut, retag, overstate])
@pytest.mark.parametrize("case", CASES)
def test_a_broken_message_names_round_and_client(run, targets, resolved, monkeypatch, case, spoil):
    consensus = ("dataset=consensus", "model=vector", "local.epochs=null", "local.steps=2")
    overrides = (*split(case), "algorithm.entropy_coding=true", *consensus, f"dataset.targets={targets}", "cohort=12")
    cls = get_class(resolved(*overrides)["algorithm"]["_target_"])
    original = cls.server

    def server(self, server, uplink, round):
        part = next(name for name, codec in self.message(server, round).items() if "EntropyCoded" in repr(codec))
        if round.t == 2:
            uplink[part][9] = spoil(uplink[part][9].clone())
        return original(self, server, uplink, round)

    monkeypatch.setattr(cls, "server", server)
    with pytest.raises(FedsignError, match=r"^round 2, client 9: [^\n]+$"):
        run(*overrides, "rounds=3")


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("fedsmu algorithm.bits=32", "algorithm.bits=32: must be 1, 3, 8 with"),
        ("fedef algorithm.codec=topk", "algorithm.codec=topk: must be sign with"),
        ("fedef algorithm.codec=heavy_sign", "algorithm.codec=heavy_sign: must be sign with"),
        ("ef21", "algorithm.codec=topk: must be sign with"),
        ("fedcams algorithm.codec=identity", "algorithm.codec=identity: must be sign with"),
        ("scallion algorithm.codec=identity", "algorithm.codec=identity: must be qsgd with"),
        ("scafcom", "algorithm.codec=topk: must be sign with"),
    ],
)
def test_what_has_no_symbols_is_refused_in_one_line(resolved, case, named):
    with pytest.raises(ConfigError, match=f"^{named} algorithm.entropy_coding=true$"):
        Config(resolved(*split(case), "algorithm.entropy_coding=true"))


def test_sparse_codecs_are_refused_before_plain_sgd_is_not(resolved):
    with pytest.raises(ConfigError, match="plain SGD"):
        Config(resolved("algorithm=scallion", "algorithm.entropy_coding=true", "local.momentum=0.9"))
