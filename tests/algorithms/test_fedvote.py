"""FedVote: rounding, voting, credibility, and what stays frozen."""

import dataclasses
import hashlib
import math

import numpy as np
import pandas as pd
import pytest
import torch
from toys import Given, algorithm, bits_of, flat, round_of, streams

from fedsign import codecs
from fedsign.algorithms.base import receive, send
from fedsign.config import Config
from fedsign.errors import ConfigError
from fedsign.execution import setup
from fedsign.models.parameters import Layout, Segment

D = 100_000
SMALL = ("dataset=mnist5k", "partition=iid", "clients=20", "cohort=4", "rounds=2", "local.epochs=null", "local.steps=2")
LENET5 = ("model=lenet5", "model.channels=[4,8]", "model.hidden=16")


def sent(fedvote, h, seed=11):
    """What clients send whose training ended at h [n, d], from p = 1/2."""
    n, d = h.shape
    uplink, _ = fedvote.client(send(p=torch.full((d,), 0.5)), {}, Given(-h), streams(range(n), seed=seed))
    return uplink


def votes(w):
    """Rows of given votes w [n, d] in {-1, +1}."""
    return {"w": codecs.Sign("plus").encode(w, streams(range(len(w))))}


def vote(fedvote, w, nu=None, clients=None, population=None, attackers=(), t=1):
    """The server's state after these votes."""
    n, d = w.shape
    clients = list(range(n)) if clients is None else clients
    given = dataclasses.replace(
        round_of(n, d, t), clients=clients, population=population or n, attackers=frozenset(attackers)
    )
    server = fedvote.init(torch.zeros(d), flat(d)) | ({} if nu is None else {"nu": torch.tensor(nu)})
    return fedvote.server(server, votes(w), given)


def signs(n, d, p=0.5, seed=0):
    return torch.where(torch.rand(n, d, generator=torch.Generator().manual_seed(seed)) < p, 1.0, -1.0)


@pytest.mark.parametrize("a", [0.5, 1.5, 10.0])
@pytest.mark.parametrize("w", [-0.95, -0.3, 0.0, 0.5, 0.99])
def test_binary_rounding_is_unbiased_with_error_one_minus_w_squared(a, w):
    """E[Q(w̃)] = w̃ and, Lemma 3, E||Q(w̃) − w̃||² = d − ||w̃||²."""
    uplink = sent(algorithm("fedvote", a=a), torch.full((1, D), math.atanh(w) / a))
    q = 2 * bits_of(uplink["w"][0], D) - 1.0
    assert abs(q.mean() - w) < 5 * math.sqrt((1 - w**2) / D)
    # (q − w)² takes two values, (1 − w)² with probability (1 + w)/2 and (1 + w)² with (1 − w)/2
    spread = math.sqrt((1 - w**2) / 4) * abs((1 - w) ** 2 - (1 + w) ** 2)
    assert abs(((q - w) ** 2).mean() - (1 - w**2)) <= 5 * spread / math.sqrt(D) + 1e-12


@pytest.mark.parametrize("w", [-0.9, -0.2, 0.0, 0.4, 0.98])
def test_ternary_rounding_is_unbiased_and_never_takes_the_other_sign(w):
    """(16): the sign of w̃ with probability |w̃|, else 0."""
    uplink = sent(algorithm("fedvote", levels=3), torch.full((1, D), math.atanh(w) / 1.5))
    q = codecs.Ternary().decode(uplink["w"], D)[0]
    assert set(q.unique().tolist()) <= {0.0, math.copysign(1.0, w)}
    assert abs(float(q.mean()) - w) <= 5 * math.sqrt(abs(w) * (1 - abs(w)) / D)


@pytest.mark.parametrize("levels", [2, 3])
def test_in_expectation_the_vote_is_fedavg_of_the_normalised_weights(levels):
    """Lemma 2: E[w̃] = 1/M Σ φ(h_m), of coordinates that are not clipped."""
    h = torch.tensor([0.6, -0.3, 0.1, 0.9, -0.2])
    w = torch.tanh(1.5 * h).double()
    fedvote = algorithm("fedvote", levels=levels)
    server = fedvote.server({}, sent(fedvote, h[:, None].expand(5, D)), round_of(5, D))
    variance = (1 - w**2 if levels == 2 else w.abs() * (1 - w.abs())).sum() / 25
    clipped = 2 * 0.001  # by at most that much, where all agree
    assert abs(fedvote.models(server)["test"].double().mean() - w.mean()) < 5 * (variance / D).sqrt() + clipped


@pytest.mark.parametrize("p_min", [0.001, 0.2])
def test_unanimous_votes_are_a_fixed_point_up_to_clipping(p_min):
    fedvote = algorithm("fedvote", p_min=p_min)
    w = signs(1, D).expand(7, D)
    server = vote(fedvote, w)
    np.testing.assert_allclose(fedvote.models(server)["test"], w[0] * (1 - 2 * p_min), rtol=1e-5)
    assert torch.equal(fedvote.models(server)["binary"], w[0])
    uplink, _ = fedvote.client(fedvote.broadcast(server), {}, Given(torch.zeros(1, D)), streams([0]))
    kept = ((2 * bits_of(uplink["w"][0], D) - 1) == w[0].numpy()).mean()
    assert abs(kept - (1 - p_min)) < 5 * math.sqrt(p_min * (1 - p_min) / D)


def test_the_vote_is_counted_exactly():
    w = signs(31, 1000, 0.3)
    p = receive(algorithm("fedvote").broadcast(vote(algorithm("fedvote"), w))["p"])
    np.testing.assert_allclose(p, ((w > 0).float().mean(dim=0)).clamp(0.001, 0.999), rtol=1e-6)


@pytest.mark.parametrize(("M", "s"), [(5, 0.2), (11, 0.3), (31, 0.4)])
def test_a_single_vote_errs_no_more_than_the_bound_says(M, s):
    """Lemma 1: P(err) <= [2 s exp(1 − 2 s)]^(M/2), with M independent votes that are wrong with probability s."""
    binary = vote(algorithm("fedvote"), signs(M, D, 1 - s))["hard"]
    error = float((binary < 0).double().mean())
    exact = sum(math.comb(M, k) * s**k * (1 - s) ** (M - k) for k in range(M // 2 + 1, M + 1))
    assert abs(error - exact) < 5 * math.sqrt(exact / D)
    assert error <= (2 * s * math.exp(1 - 2 * s)) ** (M / 2)


@pytest.mark.parametrize(("sign_zero", "values"), [("random", {-1, 1}), ("plus", {1}), ("zero", {0})])
def test_a_tied_vote_is_broken_as_sign_zero_says(sign_zero, values):
    w = torch.cat([torch.ones(2, D), -torch.ones(2, D)])
    binary = vote(algorithm("fedvote", sign_zero=sign_zero), w)["hard"]
    assert set(binary.unique().tolist()) == values
    assert sign_zero != "random" or abs(binary.double().mean()) < 5 / math.sqrt(D)


@pytest.mark.parametrize("levels", [2, 3])
def test_the_sampled_model_has_the_mean_of_the_float_model(levels):
    fedvote = algorithm("fedvote", levels=levels)
    server = fedvote.server({}, sent(fedvote, torch.tensor([0.4, 0.9, -0.1])[:, None].expand(3, D)), round_of(3, D))
    models = fedvote.models(server)
    w = models["test"].double()
    variance = 1 - w**2 if levels == 2 else w.abs() * (1 - w.abs())
    assert abs((models["sampled"].double() - w).mean()) < 5 * variance.mean().sqrt() / math.sqrt(D)
    assert set(models["sampled"].unique().tolist()) == ({-1.0, 1.0} if levels == 2 else {-1.0, 0.0, 1.0})
    if levels == 3:
        np.testing.assert_array_equal(models["ternary"], np.round(w))


def test_latent_weights_start_with_unit_deviation_per_tensor_within_the_clip():
    x = torch.cat([0.01 * torch.randn(400, generator=torch.Generator().manual_seed(0)), 7 * torch.ones(5)])
    segments = (Segment("a", 0, 400, (20, 20)), Segment("b", 400, 405, (5, 1)))
    state = algorithm("fedvote").init(x, Layout(segments, coded=405, dense=0, buffers=0, tensors=2))
    w = 2 * state["p"] - 1
    np.testing.assert_allclose(w[:400], (x[:400] / x[:400].double().std(correction=0)).clamp(-0.999, 0.999), atol=1e-6)
    np.testing.assert_allclose(w[400:], 0.999, rtol=1e-6)


def reputation(**keys):
    return algorithm("fedvote", vote="reputation", **keys)


def test_equal_credibility_is_the_soft_vote():
    """Option II with uniform ν is Option I."""
    w = signs(9, 5000, 0.4)
    soft = vote(algorithm("fedvote"), w)
    for keys in ({}, {"cut_below_mean": True}, {"reference": "nu_weighted"}):
        for nu in (None, [0.3] * 9):
            weighted = vote(reputation(**keys), w, nu)
            torch.testing.assert_close(weighted["p"], soft["p"])
            assert torch.equal(weighted["hard"], soft["hard"])


def test_credibility_is_a_moving_average_of_agreement_with_the_plurality():
    w = signs(5, 4000, 0.7)
    plurality = w.sum(dim=0).sign()
    nu = [0.9, 0.2, 0.5, 1.0, 0.4]
    state = vote(reputation(beta=0.25), w, nu)
    CR = (w == plurality).double().mean(dim=1)
    np.testing.assert_allclose(state["nu"], 0.25 * np.array(nu) + 0.75 * CR.numpy(), rtol=1e-5)
    lam = np.array(nu) / sum(nu)  # of the rounds before
    np.testing.assert_allclose(state["p"], np.clip(lam @ (w > 0).double().numpy(), 0.001, 0.999), rtol=1e-5)


def test_absent_clients_keep_their_credibility():
    w = signs(3, 1000, 0.6)
    nu = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    after = vote(reputation(), w, nu, clients=[4, 1, 2], population=6)["nu"]
    assert torch.equal(after[[0, 3, 5]], torch.tensor([0.1, 0.4, 0.6]))
    assert (after[[4, 1, 2]] != torch.tensor([0.5, 0.2, 0.3])).all()


def test_everyone_starts_with_credibility_one():
    after = vote(reputation(beta=0.5), signs(1, 100).expand(3, 100), clients=[0, 2, 3], population=5)["nu"]
    assert torch.equal(after, torch.ones(5))


def test_clients_below_the_mean_credibility_are_cut():
    w = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    nu = [0.9, 0.5, 0.6, 0.2]  # mean 0.55
    p = vote(reputation(cut_below_mean=True), w, nu)["p"]
    np.testing.assert_allclose(p, [0.9 / 1.5], rtol=1e-6)


def test_the_weighted_reference_is_the_vote_of_the_credible():
    w = torch.tensor([[1.0], [-1.0], [-1.0]])
    nu = [0.9, 0.3, 0.3]
    literal, weighted = (vote(reputation(reference=r, beta=0.0), w, nu)["nu"] for r in ("literal", "nu_weighted"))
    assert (literal.tolist(), weighted.tolist()) == ([0, 1, 1], [1, 0, 0])


def test_the_oracle_counts_the_honest_clients_alone():
    w = torch.tensor([[1.0], [-1.0], [-1.0]])
    after = vote(reputation(reference="honest_oracle", beta=0.0), w, attackers=[1, 2])["nu"]
    assert after.tolist() == [1, 0, 0]
    no_one_honest = vote(reputation(reference="honest_oracle", beta=0.5), w, attackers=[0, 1, 2])["nu"]
    assert no_one_honest.tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("a", "honest", "attacker"), [(0.05, 0.88, 0.15), (0.2, 0.66, 0.44), (0.5, 0.45, 0.72), (1.0, 0.35, 0.88)]
)
def test_sixteen_honest_clients_outvote_fifteen_attackers_only_if_they_are_nearly_unanimous(a, honest, attacker):
    """The literal reference, with votes that all honest clients draw of the same w̃ = 2 Beta(a, a) − 1."""
    rng = np.random.default_rng(0)
    pi = rng.beta(a, a, size=40_000)
    w = torch.from_numpy(np.where(rng.random((16, 40_000)) < pi, 1.0, -1.0).astype(np.float32))
    opposite = -codecs.signs(w.sum(dim=0)[None], "random", streams([0]))
    nu = vote(reputation(beta=0.0), torch.cat([w, opposite.expand(15, -1)]))["nu"]
    np.testing.assert_allclose([nu[:16].mean(), nu[16:].mean()], [honest, attacker], atol=0.02)


def test_attackers_lose_their_weight_against_the_oracle_with_the_cut():
    """As released: fifteen attackers of 31 that send the opposite of the honest vote count for nothing from round 2."""
    fedvote, w = reputation(reference="honest_oracle", cut_below_mean=True), signs(16, 4000, 0.7)
    opposite = -codecs.signs(w.sum(dim=0)[None], "random", streams([0]))
    both = torch.cat([w, opposite.expand(15, -1)])
    nu = vote(fedvote, both, attackers=range(16, 31))["nu"]
    second = vote(fedvote, both, nu.tolist(), attackers=range(16, 31), t=2)
    lam = nu[:16] * (nu[:16] >= nu.mean())
    expected = (lam / lam.sum()) @ (w > 0).float()
    torch.testing.assert_close(second["p"], expected.clamp(0.001, 0.999))


def digest(tensor):
    return hashlib.sha256(np.ascontiguousarray(tensor).tobytes()).hexdigest()


def test_the_last_layer_stays_as_it_was_and_the_other_weights_move(run, resolved):
    overrides = ("algorithm=fedvote", *SMALL, *LENET5)
    built = setup.build(Config(resolved(*overrides)))
    start = {name: tensor.clone() for name, tensor in built.executor.model.named(built.initial).items()}
    end = np.load(run(*overrides) / "model.npz")
    assert set(end.files) == {"conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight", "fc2.bias"}
    for name in ("fc2.weight", "fc2.bias"):
        assert digest(end[name]) == digest(start[name].numpy())
    assert np.std(end["fc2.weight"]) > 0
    for name in ("conv1.weight", "conv2.weight", "fc1.weight"):
        assert digest(end[name]) != digest(start[name].numpy())


def test_float_binary_and_sampled_accuracy_are_columns(run):
    metrics = pd.read_csv(run("algorithm=fedvote", *SMALL, *LENET5) / "metrics.csv")
    assert {"test_accuracy", "binary_accuracy", "sampled_accuracy"} <= set(metrics.columns)
    ternary = pd.read_csv(run("algorithm=fedvote", "algorithm.levels=3", *SMALL, *LENET5) / "metrics.csv")
    assert "ternary_accuracy" in ternary.columns


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("model=lenet_small",), "model=lenet_small"),
        ((*LENET5, "algorithm.levels=4"), "algorithm.levels=4"),
        ((*LENET5, "algorithm.p_min=0.5"), "algorithm.p_min=0.5"),
        ((*LENET5, "algorithm.a=0"), "algorithm.a=0"),
        ((*LENET5, "algorithm.levels=3", "algorithm.vote=reputation"), "algorithm.levels=3"),
        ((*LENET5, "algorithm.cut_below_mean=true"), "algorithm.cut_below_mean=true"),
        ((*LENET5, "algorithm.reference=nu_weighted"), "algorithm.reference=nu_weighted"),
        ((*LENET5, "local.optimizer=lion"), "local.optimizer=lion"),
        ((*LENET5, "local.momentum=0.9"), "local.momentum=0.9"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(resolved, given, named):
    with pytest.raises(ConfigError, match=named) as caught:
        Config(resolved("algorithm=fedvote", *given))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["mlp", "lenet", "emnist_cnn"])
def test_a_network_without_normalisation_is_refused(resolved, model):
    with pytest.raises(ConfigError, match="normalisation"):
        Config(resolved("algorithm=fedvote", f"model={model}"))


@pytest.mark.parametrize("model", ["lenet5", "cnn4"])
def test_a_network_with_normalisation_is_taken(resolved, model):
    Config(resolved("algorithm=fedvote", f"model={model}"))
