"""Whole runs under attack: on the consensus problem they follow the plain loops, and nobody's attack is no attack."""

import byzantine
import naive
import numpy as np
import pandas as pd
import pytest
import run_files
import torch
from cases import CASES
from cases.draws import SEED, streams
from test_trajectories import assert_same, overrides
from toys import attack

from fedsign import presets, simulator
from fedsign.config import Config
from fedsign.data import tasks
from fedsign.errors import FedsignError
from fedsign.execution import setup
from fedsign.robust.messages import forge

SHIPPED = sorted(path.stem for path in (presets.conf_folder() / "attack").glob("*.yaml"))
FORGERIES = sorted(set(SHIPPED) - {"none", "label_flip"})
PLAINEST = {method: name for name, (method, _, _) in reversed(CASES.items())}
VARIANTS = ("ef_signsgd-block", "fedmrn-signed", "fedvote-ternary", "fedvote-reputation-oracle", "fedcams-topk")
VARIANTS += ("scafcom-sign", "scafcom-heavy_sign", "scallion-identity", "fedsparsify-server")
CONSENSUS = ("dataset=consensus", "model=vector", "local.epochs=null", "local.steps=2")
DIGITS = ("dataset=digits", "model=mlp", "model.hidden=[16]", "partition=iid", "clients=10", "local.epochs=1")

# overrides of an attack that the plain loops know
GIVEN = {
    "opposite": [],
    "sign_flip": ["attack.scale=1.5"],
    "gaussian": ["attack.sigma=0.7"],
    "gaussian-own": ["attack.sigma=0.7", "attack.centre=own"],
    "random_bits": [],
    "alie": [],
    "ipm": ["attack.epsilon=0.5"],
    "none": [],
}


def attackers_of(clients, f):
    return attack("opposite", clients=f).attackers(SEED, clients)


def draws(attack_name, part, d):
    """The random vectors of the attackers of a run."""

    def draw(t, client):
        law = streams(t, client).uniform if attack_name == "random_bits" else streams(t, client).normal
        return law(f"attack {part}", d)[0].numpy().astype(np.float64)

    return draw


@pytest.fixture
def compared(run, targets):
    """``compared("fedavg", message, rule, "alie", "Delta", step, cohort, *overrides)``: the run follows the loop."""

    def go(method, message, rule, name, part, step, cohort, *more):
        choice = [f"attack={name.removesuffix('-own')}", "attack.clients=3", *GIVEN[name], *more]
        out = run(*overrides(method, {}, {"lr": 0.1, "steps": 2}, targets, cohort=cohort, rounds=10), *choice)
        table = pd.read_csv(out / "cohorts.csv")
        cohorts = [[int(i) for i in str(row).split()] for row in table["clients"]]
        y = np.load(targets).astype(np.float32).astype(np.float64)
        problem = naive.Problem(y, cohorts, lr=0.1, steps=2)
        ids = attackers_of(12, 3)
        honest_message = message(problem)
        path = byzantine.run(problem, honest_message, rule, name, ids, draws(name, part, y.shape[1]), step)
        assert_same(out, problem, path)
        column = pd.read_csv(out / "metrics.csv")["attackers"]
        assert list(column) == [len(ids.intersection(clients)) for clients in cohorts]
        assert cohort == 12 or column.nunique() > 1
        return path

    return go


@pytest.mark.parametrize("cohort", [12, 7])
@pytest.mark.parametrize("rule", byzantine.RULES)
@pytest.mark.parametrize("name", GIVEN)
def test_fedavg_follows_the_plain_loop(compared, name, rule, cohort):
    keys = [f"algorithm.aggregator={rule}", "algorithm.f=2", "algorithm.server_lr=0.7"]
    compared(
        "fedavg", lambda p: lambda x, i, t: x - p.sgd(x, i, t), lambda rows: byzantine.RULES[rule](rows, 2),
        name, "Delta", 0.7, cohort, *keys,
    )  # fmt: skip


@pytest.mark.parametrize("rule", byzantine.RULES)
@pytest.mark.parametrize("name", ["opposite", "sign_flip"])
def test_distributed_sgd_follows_the_plain_loop(compared, name, rule):
    keys = [f"algorithm.aggregator={rule}", "algorithm.momentum=0", "algorithm.server_lr=0.05"]  # f = 3 by default
    compared(
        "sgdm", lambda p: lambda x, i, t: p.gradient(x, i), lambda rows: byzantine.RULES[rule](rows, 3),
        name, "g", 0.05, 12, *keys,
    )  # fmt: skip


@pytest.mark.parametrize("cohort", [12, 7])
@pytest.mark.parametrize("name", [name for name in GIVEN if name != "gaussian-own"])
def test_majority_vote_follows_the_plain_loop(compared, name, cohort):
    """Votes are the signs of what an attacker would like to send; Sign(0) = 0 on either side."""

    def vote(rows):
        return np.sign(sum(np.sign(row) for row in rows))

    keys = ["algorithm.aggregate=majority", "algorithm.sign_zero=zero", "algorithm.server_lr=0.05"]
    compared("signsgd", lambda p: lambda x, i, t: np.sign(p.gradient(x, i)), vote, name, "s", 0.05, cohort, *keys)


@pytest.mark.parametrize("name", FORGERIES)
@pytest.mark.parametrize("case", sorted({*PLAINEST.values(), *VARIANTS}))
def test_what_attackers_send_is_legal_in_every_method(run, targets, monkeypatch, case, name):
    """Decoding refuses what no client could have sent; a run whose payloads it accepts has sent none such."""
    method, keys, local = CASES[case]
    given = overrides(method, keys, {"lr": 0.1, "steps": 2} | local, targets, cohort=7, rounds=2)
    changed = []

    def watched(attack, algorithm, server, uplink, round):
        before = {part: list(rows) for part, rows in uplink.items()}
        forge(attack, algorithm, server, uplink, round)
        changed.extend(
            {round.clients[i] for rows in before for i in range(7) if not torch.equal(before[rows][i], uplink[rows][i])}
        )

    monkeypatch.setattr(simulator, "forge", watched)
    out = run(*given, f"attack={name}", "attack.clients=4")
    assert set(changed) <= attackers_of(12, 4)
    assert changed or (case, name) == ("hidenseek", "alie")  # which sends what the honest do, where they all agree
    bits = [pd.read_csv(folder / "metrics.csv")["uplink_bits"] for folder in (run(*given), out)]
    assert list(bits[0]) == list(bits[1])


@pytest.mark.parametrize("name", FORGERIES)
def test_a_warm_start_is_attacked_in_whichever_part_a_client_sends(run, targets, name):
    given = overrides("ef21", {"warm_start": True}, {"lr": 0.1, "steps": 2}, targets, cohort=5, rounds=4)
    models = [np.load(run(*given, *more) / "model.npz")["x"] for more in ([], [f"attack={name}", "attack.clients=4"])]
    assert not np.array_equal(*models)


def test_a_reputation_is_kept_through_rounds_without_attackers(run, targets):
    """The weight of the attackers of a cohort that has none is zero."""
    given = overrides("fedvote", {"vote": "reputation"}, {"lr": 0.1, "steps": 2}, targets, cohort=3, rounds=8)
    table = pd.read_csv(run(*given, "attack=opposite", "attack.clients=2") / "metrics.csv")
    assert 0 < table["attackers"].astype(bool).sum() < 8
    assert ((table["attackers_weight"] > 0) == (table["attackers"] > 0)).all()


def test_fedvotes_oracle_knows_the_attackers_of_the_run(run, targets):
    """Who always votes against the honest has CR = 0: ν halves in every round, and the honest keep theirs above it."""
    keys = {"vote": "reputation", "reference": "honest_oracle", "beta": 0.5}
    given = overrides("fedvote", keys, {"lr": 0.1, "steps": 2}, targets, cohort=12, rounds=8)
    table = pd.read_csv(run(*given, "attack=opposite", "attack.clients=5") / "metrics.csv")
    assert table["attackers_weight"].iloc[0] == pytest.approx(5 / 12)
    assert table["attackers_weight"].iloc[-1] < 0.02
    assert table["attackers_weight"].is_monotonic_decreasing


@pytest.fixture
def voted(consensus):
    """``voted(0.2, "vote=soft")``: 16 honest clients near one binary vector, by so many deviations, and 15 attackers.

    Returns the share of the vector's signs that the model has in the end, and the attackers' weights.
    """

    def go(spread, *keys):
        rng = np.random.default_rng(5)
        w = rng.choice([-1.0, 1.0], size=400)
        out, x = consensus(
            w + spread * rng.normal(size=(31, 400)), "algorithm=fedvote", *[f"algorithm.{key}" for key in keys],
            "attack=opposite", "attack.clients=15", "rounds=10", "local.steps=20", "local.lr=0.1",
        )  # fmt: skip
        weights = pd.read_csv(out / "metrics.csv").get("attackers_weight")
        return np.mean(np.sign(x) == w), weights

    return go


def test_fedvote_with_oracle_and_cut_withstands_15_of_31(voted):
    """Whatever the honest clients think: from the second round on the attackers have no weight."""
    for spread, agreement in ((0.2, 0.99), (1.0, 0.97)):
        share, weights = voted(spread, "vote=reputation", "reference=honest_oracle", "cut_below_mean=true")
        assert share > agreement  # measured: 1.000, 0.998
        assert weights[0] == pytest.approx(15 / 31) and not weights[1:].any()


@pytest.mark.parametrize("reference", ["literal", "nu_weighted"])
def test_other_references_of_fedvote_need_honest_clients_that_nearly_agree(voted, reference):
    """Sixteen outvote fifteen where all sixteen agree; where they do not, the attackers are the credible ones."""
    agreeing, weights = voted(0.2, "vote=reputation", f"reference={reference}")
    assert agreeing > 0.9 and weights.iloc[-1] < 15 / 31 - 0.05
    assert reference == "literal" or weights.iloc[-1] < 0.05
    scattered, weights = voted(1.0, "vote=reputation", f"reference={reference}")
    assert scattered < 0.1 and weights.iloc[-1] > 0.7


def test_a_soft_vote_of_fedvote_falls_to_15_of_31(voted):
    assert voted(1.0, "vote=soft")[0] < 0.1
    assert voted(1.0, "vote=soft", "levels=3")[0] < 0.5


@pytest.mark.parametrize("bits", [3, 8, 32])
@pytest.mark.parametrize("name", FORGERIES)
def test_what_attackers_send_is_legal_in_levels(run, targets, name, bits):
    given = overrides("fedsmu", {"bits": bits}, {"lr": 0.1, "steps": 2}, targets, cohort=12, rounds=2)
    run(*given, f"attack={name}", "attack.clients=4")


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("method", ["fedavg", "fedsmu"])
def test_an_attack_of_nobody_is_the_clean_run(run, method, name):
    given = (*DIGITS, f"algorithm={method}", "cohort=4", "rounds=3")
    run_files.assert_same(run(*given), run(*given, f"attack={name}", "attack.clients=0"))


def test_attackers_who_do_nothing_change_nothing(run, targets):
    given = (*CONSENSUS, f"dataset.targets={targets}", "cohort=7", "rounds=4")
    models = [np.load(run(*given, f"attack.clients={f}") / "model.npz")["x"] for f in (0, 4)]
    np.testing.assert_array_equal(*models)


@pytest.mark.parametrize("name", ["alie", "gaussian", "label_flip"])
def test_the_number_of_workers_changes_no_bit_of_an_attack(run, name):
    """Every rank forges the same messages."""
    given = (*DIGITS, "cohort=5", "rounds=2", f"attack={name}", "attack.clients=4", "algorithm.aggregator=median")
    run_files.assert_same(*(run(*given, f"hardware.workers={n}") for n in (1, 2)))


@pytest.mark.parametrize("vectorise", ["false", "true"])
@pytest.mark.parametrize("method", ["fedavg", "fedsmu"])
def test_label_flip_trains_the_attackers_on_the_labels_from_the_other_end(run, resolved, tmp_path, method, vectorise):
    """The same run as of a file in which those clients' labels are C − 1 − y."""
    rng = np.random.default_rng(0)
    x = rng.integers(256, size=(200, 8, 8), dtype=np.uint8)
    y = rng.integers(10, size=200)
    y[:10] = np.arange(10)
    given = ["dataset=npz", "dataset.name=mine", "model=mlp", "partition=iid", "clients=8", "cohort=5", "rounds=3"]
    given += ["local.epochs=2", "local.batch_size=7", f"algorithm={method}", f"hardware.vectorise={vectorise}"]

    def root(name, labels):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "mine.npz", x_train=x, y_train=labels, x_test=x[:20], y_test=y[:20])
        return f"dataset.root={tmp_path / name}"

    plain = root("plain", y)
    attacked = run(*given, plain, "attack=label_flip", "attack.clients=3")
    cfg = Config(resolved(*given, plain, "attack=label_flip", "attack.clients=3"))
    parts = setup.split(cfg, tasks.load(cfg.dataset, torch.device("cpu")))
    flipped = y.copy()
    for i in cfg.attack.attackers(cfg.seed, 8):
        flipped[parts[i]] = 9 - flipped[parts[i]]
    by_hand = run(*given, root("flipped", flipped))
    clean = run(*given, plain)
    for tensor, array in np.load(attacked / "model.npz").items():
        np.testing.assert_array_equal(array, np.load(by_hand / "model.npz")[tensor])
    assert not np.array_equal(array, np.load(clean / "model.npz")[tensor])


def test_the_dense_tail_of_an_attacker_is_what_it_trained(run):
    given = (*DIGITS, "cohort=10", "rounds=1", "algorithm=signsgd", "algorithm.codes=weights", "local.epochs=1")
    clean, out = (np.load(run(*given, *more) / "model.npz") for more in ([], ["attack=opposite"]))
    np.testing.assert_array_equal(out["fc1.bias"], clean["fc1.bias"])
    assert not np.array_equal(out["fc1.weight"], clean["fc1.weight"])


def test_an_attacker_who_overflows_is_named(run, targets):
    given = (*CONSENSUS, f"dataset.targets={targets}", "cohort=12", "attack=sign_flip", "attack.clients=1")
    (attacker,) = attack("sign_flip", clients=1).attackers(0, 12)
    with pytest.raises(FedsignError, match=rf"^round 1, client {attacker}: attack=sign_flip: .*infinite"):
        run(*given, "attack.scale=1e300")
