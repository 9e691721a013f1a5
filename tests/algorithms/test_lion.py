"""FedLion and Distributed Lion: what they degenerate to, what they send, and what they refuse."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from toys import Given, algorithm, fair_signs, flat, lion, round_of, streams

from fedsign.algorithms.base import send
from fedsign.codecs import Float32, Integer
from fedsign.config import Config
from fedsign.errors import FedsignError, PayloadError
from fedsign.execution import setup
from fedsign.execution.ranks import Ranks
from fedsign.execution.serial import SerialTraining
from fedsign.local.training import Trained
from fedsign.simulator import Simulator

STEP = ("algorithm.beta_1=0.9", "algorithm.beta_2=0.99", "algorithm.lr=0.05", "local.steps=1", "rounds=20")
DIGITS = ("dataset=digits", "model=mlp", "clients=10", "local.batch_size=16")


def given(*names):
    return [f"algorithm.{name}" for name in names]


def test_fedlion_of_one_client_and_one_step_is_lion(consensus):
    y = np.random.default_rng(0).normal(size=(1, 50))
    _, x = consensus(y, "algorithm=fedlion", *STEP, "local.lr=7")  # of which it makes no use
    np.testing.assert_allclose(x, lion(lambda x: x - y[0], np.zeros(50), lr=0.05, weight_decay=0), atol=1e-6)


@pytest.mark.parametrize("aggregate", ["mean", "majority"])
@pytest.mark.parametrize("sync", ["true", "false"])
def test_dlion_of_one_worker_is_lion(consensus, aggregate, sync):
    y = np.random.default_rng(1).normal(size=(1, 50))
    keys = given(f"aggregate={aggregate}", f"sync={sync}", "weight_decay=0.3")
    _, x = consensus(y, "algorithm=dlion", *STEP, *keys)
    np.testing.assert_allclose(x, lion(lambda x: x - y[0], np.zeros(50), lr=0.05, weight_decay=0.3), atol=1e-6)


@pytest.mark.parametrize("sign_zero", ["random", "zero", "plus"])
@pytest.mark.parametrize("aggregate", ["mean", "majority"])
@pytest.mark.parametrize(("cohort", "steps"), [(8, 1), (8, 5), (3, 1), (3, 5)])
def test_dlion_in_step_is_fedsmu(consensus, sign_zero, aggregate, cohort, steps):
    """With full participation, one step and a mean: the identity of the two papers. Here to the bit, zeros included."""
    y = np.random.default_rng(2).normal(size=(8, 30))
    y[:, :5] = 0
    shared = (f"cohort={cohort}", f"local.steps={steps}", "rounds=8")
    keys = given(f"aggregate={aggregate}", f"sign_zero={sign_zero}", "beta_1=0.9", "beta_2=0.99")
    _, dlion = consensus(y, "algorithm=dlion", *shared, *keys, *given("lr=0.03", "weight_decay=0.2"))
    _, fedsmu = consensus(y, "algorithm=fedsmu", *shared, *keys, *given("gamma_1=0.03", "gamma_2=0.2"))
    assert np.array_equal(dlion, fedsmu)


@pytest.mark.parametrize("aggregate", ["mean", "majority"])
def test_workers_that_all_take_part_stay_in_step(run, aggregate):
    """From a model that is not zero, which no message has told them."""
    models = []
    for sync in ("true", "false"):
        keys = given(f"sync={sync}", f"aggregate={aggregate}", "codes=weights")
        models.append(np.load(run("algorithm=dlion", *DIGITS, "cohort=10", "rounds=3", *keys) / "model.npz"))
    for name in models[0].files:
        np.testing.assert_allclose(models[0][name], models[1][name], rtol=0, atol=1e-5)


class Watch:
    """Stands in for tracker, progress and interrupts: after every round, calls `look`."""

    received = None

    def __init__(self, look):
        self.look = look

    def cohort(self, t, clients):
        self.look(t, clients)

    def metrics(self, row):
        pass

    def update(self, *progress):
        pass

    def sync(self):
        pass


@pytest.mark.parametrize("sign_zero", ["random", "zero", "plus"])
@pytest.mark.parametrize("aggregate", ["mean", "majority"])
def test_the_server_knows_what_every_worker_has_and_the_absent_have_what_they_had(
    resolved, targets, aggregate, sign_zero
):
    y = np.load(targets)
    y[:, 0] = 0
    np.save(targets, y)
    keys = given("sync=false", f"aggregate={aggregate}", f"sign_zero={sign_zero}")
    shared = ("dataset=consensus", "model=vector", f"dataset.targets={targets}", "local.epochs=null", "local.steps=2")
    config = Config(resolved("algorithm=dlion", *keys, *shared, "cohort=4", "rounds=6"))
    simulator = Simulator(config, setup.build(config))
    before = torch.zeros(12, 7)
    moved = []

    def look(t, clients):
        x = simulator.states.read(list(range(12)), torch.device("cpu"))["x"]
        assert torch.equal(x, simulator.server["x"])
        changed = [i for i in range(12) if not torch.equal(x[i], before[i])]
        assert changed == sorted(clients)
        assert torch.equal(simulator.model(), x.mean(dim=0))
        before.copy_(x)
        moved.extend(changed)

    watch = Watch(look)
    simulator.run(Ranks(), watch, watch, watch)
    assert len(moved) == 6 * 4


@pytest.mark.parametrize(
    ("aggregate", "sign_zero", "n", "bits"),
    [
        ("majority", "random", 7, 1),
        ("majority", "random", 6, 1),
        ("majority", "zero", 7, 2),
        ("mean", "random", 7, 3),
        ("mean", "random", 8, 4),
        ("mean", "plus", 12, 4),
        ("mean", "zero", 7, 4),
        ("mean", "zero", 8, 5),
    ],
)
def test_stale_workers_are_sent_the_update_alone(run, targets, aggregate, sign_zero, n, bits):
    """⌈log2(n+1)⌉ bits of a mean of n signs, ⌈log2(2n+1)⌉ with zeros among them; n in 32 bits. There is no tail."""
    keys = given("sync=false", f"aggregate={aggregate}", f"sign_zero={sign_zero}")
    shared = ("dataset=consensus", "model=vector", f"dataset.targets={targets}", f"cohort={n}")
    out = run("algorithm=dlion", *keys, *shared, "local.epochs=null", "local.steps=1", "rounds=3")
    received = 8 * bits + (32 if aggregate == "mean" else 0)  # a plane of seven bits is a byte
    dry = json.loads((run("algorithm=dlion", *keys, *shared, "dry_run=true") / "summary.json").read_text())
    assert dry["bits_per_round"]["downlink"] == n * received
    assert list(pd.read_csv(out / "metrics.csv")["downlink_bits"]) == [t * n * received for t in (1, 2, 3)]


@pytest.mark.parametrize("aggregate", ["mean", "majority"])
@pytest.mark.parametrize("sign_zero", ["random", "zero"])
@pytest.mark.parametrize("n", [1, 2, 5, 31, 100])
def test_a_reply_carries_the_update_to_the_bit(aggregate, sign_zero, n):
    dlion = algorithm("dlion", sync=False, aggregate=aggregate, sign_zero=sign_zero, lr=1.0, weight_decay=0.0)
    sent, _ = dlion.client(
        {}, {"m": torch.zeros(n, 501), "x": torch.zeros(n, 501)}, Given(fair_signs(n, 501)), streams(range(n))
    )
    server = dlion.server(dlion.init(torch.zeros(501), flat(501)), sent, round_of(n, 501))
    state = dlion.keep(dlion.reply(server), {"m": torch.zeros(1, 501), "x": torch.zeros(1, 501)})
    assert torch.equal(state["x"][0], server["Delta"])
    assert torch.equal(state["x"][0], server["x"][0])


class LocalLion(Given):
    """Local training of E_i steps whose signs add up to `count`."""

    def __init__(self, count, steps, m=None):
        super().__init__(count)
        self.count, self.step_counts, self.m = count, list(steps), m if m is not None else 0 * count

    def train(self, x, *, correction=None, weights=None, optimizer=None, steps=None):
        return Trained(x - optimizer.lr * self.count, {"m": self.m, "count": self.count})


UNEQUAL = [1, 4, 50, 2, 500]


def sums(steps, d):
    rng = np.random.default_rng(4)
    return torch.from_numpy(np.stack([rng.integers(-E, E, d, endpoint=True) for E in steps])).float()


def sent_by(count, steps, m=None):
    fedlion = algorithm("fedlion")
    zero = torch.zeros(count.shape[1])
    uplink, state = fedlion.client(send(x=zero, m=zero), {}, LocalLion(count, steps, m), streams(range(len(count))))
    assert state == {}
    return fedlion, uplink


def test_fedlion_averages_the_integers_of_clients_with_unequal_steps():
    count, m = sums(UNEQUAL, 1003), torch.randn(5, 1003, generator=torch.Generator().manual_seed(0))
    fedlion, uplink = sent_by(count, UNEQUAL, m)
    x = torch.full((1003,), 2.0)
    server = fedlion.server({"x": x, "m": 0 * x}, uplink, round_of(5, 1003, steps=UNEQUAL))
    mean = (count.numpy().astype(np.int64).sum(axis=0) / 5).astype(np.float32)
    np.testing.assert_array_equal(server["x"].numpy(), (x - 0.001 * torch.from_numpy(mean)).numpy())
    np.testing.assert_allclose(server["m"].numpy(), m.mean(dim=0).numpy(), atol=1e-6)


def test_fedlion_rows_are_as_long_as_the_clients_own_steps_need():
    _, uplink = sent_by(sums(UNEQUAL, 1003), UNEQUAL)
    for E, Delta, m in zip(UNEQUAL, uplink["Delta"], uplink["m"], strict=True):
        assert len(Delta) == math.ceil(math.log2(2 * E + 1)) * 126
        assert len(m) == 4 * 1003


@pytest.mark.parametrize("row", range(5))
def test_fedlion_refuses_a_row_of_other_steps(row):
    fedlion, uplink = sent_by(sums(UNEQUAL, 1003), UNEQUAL)
    uplink["Delta"][row] = uplink["Delta"][row - 1]
    with pytest.raises(PayloadError, match="expected") as error:
        fedlion.server({"x": torch.zeros(1003), "m": torch.zeros(1003)}, uplink, round_of(5, 1003, steps=UNEQUAL))
    assert error.value.row == row


@pytest.mark.parametrize("row", range(5))
def test_fedlion_refuses_more_signs_than_a_client_has_steps(row):
    """A row of the right length: with one step more, E + 1 fits the same bits."""
    steps = [4, 5, 50, 2, 500]
    count = torch.zeros(5, 16)
    fedlion, uplink = sent_by(count, steps)
    E = steps[row]
    assert Integer(-E, E).k == Integer(-E - 1, E + 1).k
    uplink["Delta"][row] |= 255  # every symbol the highest
    with pytest.raises(PayloadError, match=f"not in -{E}..{E}") as error:
        fedlion.server({"x": torch.zeros(16), "m": torch.zeros(16)}, uplink, round_of(5, 16, steps=steps))
    assert error.value.row == row


@pytest.mark.parametrize(("part", "bad"), [("count", math.nan), ("count", 0.5), ("count", 51.0), ("m", math.nan)])
@pytest.mark.parametrize("row", range(3))
def test_fedlion_does_not_send_what_is_no_sum_of_signs(part, bad, row):
    parts = {"count": torch.zeros(3, 9), "m": torch.zeros(3, 9)}
    parts[part][row, 4] = bad
    with pytest.raises(PayloadError) as error:
        sent_by(parts["count"], [50] * 3, parts["m"])
    assert error.value.row == row


def test_fedlion_names_the_client_whose_gradient_is_not_finite(run, targets, monkeypatch):
    def spoil(self, i, *arguments, train_one=SerialTraining._train_one):
        done = train_one(self, i, *arguments)
        if self.streams.round == 2 and self.clients[i] == 7:
            arguments[4]["count"][3] = arguments[4]["m"][3] = math.nan
        return done

    monkeypatch.setattr(SerialTraining, "_train_one", spoil)
    with pytest.raises(FedsignError, match=r"^round 2, client 7: [^\n]*NaN or infinite[^\n]*$"):
        run("algorithm=fedlion", "dataset=consensus", "model=vector", f"dataset.targets={targets}", "cohort=12")


def test_a_real_sum_of_signs_has_the_parity_of_the_steps_and_their_size(consensus, monkeypatch):
    sent = []
    encode = Integer.encode
    monkeypatch.setattr(Integer, "encode", lambda self, x: sent.append(x.clone()) or encode(self, x))
    y = np.random.default_rng(3).normal(size=(4, 30))
    consensus(y, "algorithm=fedlion", "local.steps=7", "rounds=3", "algorithm.lr=0.02")
    sent = torch.cat(sent)
    assert sent.shape == (12, 30)
    assert (sent.abs() <= 7).all() and (sent % 2 == 1).all()  # no gradient is exactly zero
    assert (sent.abs() < 7).any()


@pytest.mark.parametrize("epochs", [1, 3])
def test_fedlion_bits_follow_every_clients_own_epochs(run, resolved, epochs):
    """Dirichlet clients have unequal samples, so unequal K, so unequal rows; the formula leaves out the padding."""
    overrides = (*DIGITS, "algorithm=fedlion", "partition=dirichlet_per_class", f"local.epochs={epochs}", "cohort=10")
    built = setup.build(Config(resolved(*overrides)))
    steps = [epochs * math.ceil(len(part) / 16) for part in built.executor.parts]
    k = [math.ceil(math.log2(2 * K + 1)) for K in steps]
    assert len(set(k)) > 1
    d = built.layout.coded
    dry = json.loads((run(*overrides, "dry_run=true") / "summary.json").read_text())["bits_per_round"]
    assert dry["uplink_per_client"] == {"Delta": 8 * math.ceil(d / 8) * k[0], "m": 32 * d}  # of client 0
    assert dry["uplink_formula"] == 10 * (d * k[0] + 32 * d)
    metrics = pd.read_csv(run(*overrides, "rounds=2") / "metrics.csv")
    uplink = sum(8 * math.ceil(d / 8) * bits + 32 * d for bits in k)
    assert list(metrics["uplink_bits"]) == [uplink, 2 * uplink]
    assert list(metrics["uplink_bits_formula"]) == [t * sum(d * bits + 32 * d for bits in k) for t in (1, 2)]
    assert list(metrics["downlink_bits"]) == [t * 10 * 64 * d for t in (1, 2)]


def test_order_of_the_cohort_does_not_matter_to_fedlion():
    count, order = sums(UNEQUAL, 64), [3, 0, 4, 1, 2]
    x = torch.zeros(64)
    fedlion, uplink = sent_by(count, UNEQUAL)
    permuted = {name: [rows[i] for i in order] for name, rows in uplink.items()}
    a = fedlion.server({"x": x, "m": x}, uplink, round_of(5, 64, steps=UNEQUAL))
    b = fedlion.server({"x": x, "m": x}, permuted, round_of(5, 64, steps=[UNEQUAL[i] for i in order]))
    assert torch.equal(a["x"], b["x"])


def test_fedlion_momentum_that_is_not_a_number_is_refused():
    fedlion, uplink = sent_by(sums(UNEQUAL, 16), UNEQUAL)
    uplink["m"][3][4:8] = Float32().encode(torch.ones(1, 1))[0]
    uplink["m"][3][:4] = torch.tensor([0, 0, 192, 127], dtype=torch.uint8)
    with pytest.raises(PayloadError, match="NaN") as error:
        fedlion.server({"x": torch.zeros(16), "m": torch.zeros(16)}, uplink, round_of(5, 16, steps=UNEQUAL))
    assert error.value.row == 3


def test_the_formula_of_fedlion_is_its_paper_s():
    fedlion, layout = algorithm("fedlion"), flat(1000)
    assert fedlion.cohort_bits_formula(layout, torch.tensor([50] * 3)) == 3 * 1000 * (7 + 32)
    assert fedlion.uplink_bits_formula(layout, 1) == 1000 * (2 + 32)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("algorithm=fedlion algorithm.lr=0", "algorithm.lr=0"),
        ("algorithm=fedlion algorithm.beta_2=1", "algorithm.beta_2=1"),
        ("algorithm=dlion algorithm.lr=-1", "algorithm.lr=-1"),
        ("algorithm=dlion algorithm.sync=maybe", "algorithm.sync=maybe"),
        ("algorithm=dlion algorithm.aggregate=median", "algorithm.aggregate=median"),
        ("algorithm=dlion algorithm.weight_decay=-0.1", "algorithm.weight_decay=-0.1"),
    ],
)
def test_values_that_cannot_be_run_are_refused(resolved, override, words):
    with pytest.raises(FedsignError, match=f"^{words}: must be [^\n]+$"):
        Config(resolved(*override.split()))
