"""Stochastic signs and their vote: laws, moments and degenerations of MV-sto-signSGD(-SIM) and Sto-SignSGD."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from toys import Given, algorithm, bits_of, fair_signs, flat, round_of, streams

from fedsign import codecs
from fedsign.algorithms.base import send
from fedsign.algorithms.sto_signsgd import sto_sign
from fedsign.algorithms.zsign import z_noise
from fedsign.config import Config
from fedsign.errors import FedsignError, PayloadError
from fedsign.execution.serial import SerialTraining

N = 200_000


def random_signs(v, R, n=N):
    """n draws of S_R(v) for a number v."""
    (row,) = sto_sign(torch.full((1, n), v), R, codecs.Sign("random"), streams([0]))
    return 2.0 * bits_of(row, n) - 1


@pytest.mark.parametrize("v", [-2.0, -0.6, -0.59, -0.3, -0.01, 0.0, 0.1, 0.4, 0.6001, 5.0])
def test_a_random_sign_is_v_over_r_in_expectation_clipped(v):
    """E[S_R(v)] = clip(v/R, -1, 1), within five standard errors of a mean of n signs; certain beyond R."""
    p = float(np.clip(v / 0.6, -1, 1))
    mean = random_signs(v, 0.6).mean()
    if abs(p) < 1:
        assert abs(mean - p) < 5 * math.sqrt((1 - p**2) / N)
    else:
        assert abs(mean - p) <= 2 / N  # v = R up to float32: one draw in 2^25 is a coin


@pytest.mark.parametrize("norm", [0.1, 0.5, 1.0])
def test_second_moment_of_a_random_sign_is_exact(norm):
    """E||S_R(v) - v/R||^2 = d - ||v||^2 / R^2 where ||v||_inf <= R."""
    d, R, n = 12, 2.0, 5_000
    v = torch.randn(d, generator=torch.Generator().manual_seed(0))
    v = v / v.abs().max() * norm * R
    rows = sto_sign(v.expand(n, d), R, codecs.Sign("random"), streams(range(n)))
    error = (codecs.Sign("random").decode(rows, d) - v / R).double().pow(2).sum(dim=1).numpy()
    p = (v / R).double().numpy()
    standard_error = math.sqrt(
        np.sum(4 * p**2 * (1 - p**2)) / n
    )  # (s - p)^2 = 1 - 2 p s + p^2 has variance 4 p^2 (1 - p^2)
    assert abs(error.mean() - (d - np.sum(p**2))) < 5 * standard_error + 1e-6


def test_a_random_sign_scaled_by_the_norm_is_unbiased_and_its_error_is_d_minus_1_times_the_square():
    """E ||g|| s = g, and E|| ||g|| s - g ||^2 = (d - 1) ||g||^2: Safaryan and Richtarik."""
    d, n = 12, 20_000
    g = torch.randn(d, generator=torch.Generator().manual_seed(1))
    norm = float(g.double().norm())
    method = algorithm("sto_signsgd", theta=0.0)
    uplink, _ = method.client(
        send(x=torch.zeros(d)), {"v": torch.zeros(n, d)}, Given(g.expand(n, d)), streams(range(n))
    )
    s = codecs.Sign("random").decode(uplink["s"], d).double().numpy()
    p = g.double().numpy() / norm
    assert (np.abs(norm * s.mean(axis=0) - norm * p) < 5 * norm * np.sqrt((1 - p**2) / n)).all()
    error = np.sum((norm * s - norm * p) ** 2, axis=1)
    standard_error = norm**2 * math.sqrt(np.sum(4 * p**2 * (1 - p**2)) / n)
    assert abs(error.mean() - (d - 1) * norm**2) < 5 * standard_error


@pytest.mark.parametrize("R", [0.0, 1e-60, 1e-3, 1e3])
def test_a_random_sign_of_zero_is_a_fair_coin(R):
    assert abs(random_signs(0.0, R).mean()) < 5 / math.sqrt(N)


def test_sto_signsgd_without_a_gradient_throws_fair_coins():
    method = algorithm("sto_signsgd")
    uplink, state = method.client(
        send(x=torch.zeros(N)), {"v": torch.zeros(1, N)}, Given(torch.zeros(1, N)), streams([0])
    )
    assert (state["v"] == 0).all()
    assert abs(2 * bits_of(uplink["s"][0], N).mean() - 1) < 5 / math.sqrt(N)


@pytest.mark.parametrize("v", [-0.5, -0.1, 0.0, 0.3, 0.7])
def test_a_random_sign_has_the_law_of_z_noise_with_infinite_z(v):
    """Sign(v + sigma xi_inf) with sigma = R, drawn independently: the means differ by at most five standard errors."""
    R = 0.6
    xi = z_noise(math.inf, N, streams([0]))[0]
    noisy = np.sign(v + R * xi.double().numpy())
    p = float(np.clip(v / R, -1, 1))
    assert abs(random_signs(v, R).mean() - noisy.mean()) <= 5 * math.sqrt(2 * (1 - p**2) / N)


@pytest.mark.parametrize("sign_zero", ["random", "zero"])
@pytest.mark.parametrize("theta", [0.0, 0.9])
@pytest.mark.parametrize(("cohort", "alpha"), [(7, 0.0), (6, 0.0), (6, 1.0)])
def test_without_noise_it_is_signum_with_a_majority_vote(consensus, theta, cohort, alpha, sign_zero):
    """R -> 0, ties of even cohorts included; with theta = 0, MV-signSGD."""
    y = np.random.default_rng(0).normal(size=(9, 40))
    keys = (f"algorithm.theta={theta}", f"algorithm.alpha={alpha}", "algorithm.server_lr=0.03")
    keys += (f"algorithm.sign_zero={sign_zero}", f"cohort={cohort}", "rounds=12", "local.steps=1")
    _, signum = consensus(y, "algorithm=signsgd", "algorithm.aggregate=majority", *keys)
    for R in (1e-30, 1e-60):  # the second is zero in float32
        _, x = consensus(y, "algorithm=mv_sto_signsgd", f"algorithm.R={R}", *keys)
        assert np.array_equal(x, signum)


def test_without_noise_one_worker_runs_signsgd_sim(consensus):
    """Algorithm 1 of Sun et al."""
    y = np.random.default_rng(1).normal(size=(1, 40))
    _, x = consensus(
        y, "algorithm=mv_sto_signsgd", "algorithm.R=1e-30", "algorithm.server_lr=0.03", "rounds=15", "local.steps=1"
    )
    expected, m = np.zeros(40), np.zeros(40)
    for _ in range(15):
        m = 0.9 * m + 0.1 * (expected - y[0])
        expected = expected - 0.03 * np.sign(m)
    np.testing.assert_allclose(x, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["mv_sto_signsgd", "sto_signsgd"])
def test_without_momentum_the_gradient_is_signed(name):
    method = algorithm(name, theta=0.0)
    g, old = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(2))
    (state,) = method.client_state
    _, new = method.client(send(x=torch.zeros(50), y=torch.zeros(50)), {state: old}, Given(g), streams([0, 1, 2]))
    assert torch.equal(new[state], g)


def sent(method, g):
    (state,) = method.client_state
    downlink = send(x=torch.zeros(g.shape[1]), y=torch.zeros(g.shape[1]))
    return method.client(downlink, {state: 0 * g}, Given(g), streams(range(len(g))))[0]["s"]


@pytest.mark.parametrize("c", [2.0**-20, 0.125, 64.0])
def test_only_a_noise_that_follows_the_norm_does_not_see_the_scale_of_the_gradients(c):
    g = torch.randn(2, 3000, generator=torch.Generator().manual_seed(3))
    sto, mv = algorithm("sto_signsgd"), algorithm("mv_sto_signsgd", R=0.1)
    assert all(torch.equal(a, b) for a, b in zip(sent(sto, g), sent(sto, c * g), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(sent(mv, g), sent(mv, c * g), strict=True))


def vote_of(votes, **keys):
    """The vote that mv_sto_signsgd steps along."""
    n, d = votes.shape
    method = algorithm("mv_sto_signsgd", server_lr=1.0, **keys)
    rows = codecs.Sign("random").encode(votes, streams(range(n)))
    return -method.server(method.init(torch.zeros(d), flat(d)), {"s": rows}, round_of(n, d))["x"].numpy()


@pytest.mark.parametrize("n", [2, 10, 20, 50])
def test_fair_votes_tie_as_often_as_fair_coins(n):
    vote = vote_of(fair_signs(n, 100_000), sign_zero="zero")
    p = math.comb(n, n // 2) / 2**n
    assert abs((vote == 0).mean() - p) < 5 * math.sqrt(p * (1 - p) / 100_000)


@pytest.mark.parametrize("sign_zero", ["random", "zero", "plus"])
def test_ties_are_what_sign_zero_says(sign_zero):
    votes = fair_signs(10, 100_000)
    total, vote = votes.sum(dim=0).numpy(), vote_of(votes, sign_zero=sign_zero)
    np.testing.assert_array_equal(vote[total != 0], np.sign(total[total != 0]))
    tied = vote[total == 0]
    if sign_zero == "random":
        assert (np.abs(tied) == 1).all()
        assert abs(tied.mean()) < 5 / math.sqrt(len(tied))
    else:
        assert (tied == {"zero": 0, "plus": 1}[sign_zero]).all()


@pytest.mark.parametrize("n", [1, 3, 31])
def test_an_odd_cohort_votes_as_its_mean_and_its_median_do(n):
    votes = fair_signs(n, 10_000)
    vote = vote_of(votes)
    np.testing.assert_array_equal(vote, np.sign(votes.numpy().mean(axis=0)))
    np.testing.assert_array_equal(vote, np.median(votes.numpy(), axis=0))


@pytest.mark.parametrize(("n", "flipped"), [(7, 3), (10, 4), (31, 15)])
def test_a_minority_does_not_turn_a_unanimous_vote(n, flipped):
    """And half of the cohort or more does."""
    votes = fair_signs(1, 1000).repeat(n, 1)
    unanimous = votes[0].clone()
    votes[:flipped] *= -1
    np.testing.assert_array_equal(vote_of(votes), unanimous)
    votes[flipped : n // 2 + 1] *= -1
    np.testing.assert_array_equal(vote_of(votes), -unanimous)


@pytest.mark.parametrize("K", [1, 5])
def test_the_federated_form_takes_k_plus_1_gradients_on_batches_of_their_own(run, monkeypatch, K):
    """The last one where the K steps end; local.epochs does not count."""
    seen = []
    backward = SerialTraining._backward

    def counted(self, inputs, targets, total):
        g = backward(self, inputs, targets, total)
        seen.append((self.executor.model.vector.clone(), inputs.clone(), g.clone()))
        return g

    monkeypatch.setattr(SerialTraining, "_backward", counted)
    keys = ("algorithm=mv_sto_signsgd", f"algorithm.local_steps={K}", "local.epochs=3", "local.lr=0.3")
    digits = (
        "dataset=digits",
        "model=mlp",
        "clients=10",
        "local.batch_size=16",
        "partition=iid",
        "cohort=1",
        "rounds=1",
    )
    run(*keys, *digits)
    assert len(seen) == K + 1
    batches = [inputs.flatten(1) for _, inputs, _ in seen]
    assert len(torch.unique(torch.cat(batches), dim=0)) == 16 * (K + 1)
    for (z, _, g), (after, _, _) in itertools.pairwise(seen):
        torch.testing.assert_close(after, z - 0.3 * g, rtol=0, atol=1e-6)


def test_without_local_steps_nothing_is_trained():
    class NoTraining(Given):
        def train(self, x, **hooks):
            raise AssertionError

    g = torch.randn(2, 30, generator=torch.Generator().manual_seed(4))
    method = algorithm("mv_sto_signsgd")
    method.client(send(y=torch.zeros(30)), {"m": 0 * g}, NoTraining(g), streams([0, 1]))


@pytest.mark.parametrize(("R", "fraction"), [(1e-30, 1.0), (1e30, 0.0)])
def test_the_share_of_momenta_without_noise_is_logged(run, targets, R, fraction):
    given = ("dataset=consensus", "model=vector", f"dataset.targets={targets}", "cohort=5", "rounds=2")
    out = run("algorithm=mv_sto_signsgd", f"algorithm.R={R}", *given)
    assert list(pd.read_csv(out / "metrics.csv")["clipped_fraction"]) == [fraction] * 2


@pytest.mark.parametrize("name", ["mv_sto_signsgd", "sto_signsgd"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_momentum_that_is_not_finite_is_not_sent(name, bad):
    g = torch.zeros(3, 9)
    g[1, 4] = bad
    with pytest.raises(PayloadError, match="NaN or infinite") as error:
        sent(algorithm(name), g)
    assert error.value.row == 1


@pytest.mark.parametrize("sign_zero", ["random", "zero"])
def test_random_signs_cost_one_bit_whatever_the_vote_does_with_ties(sign_zero):
    method = algorithm("mv_sto_signsgd", sign_zero=sign_zero)
    assert [len(row) for row in sent(method, torch.zeros(3, 1003))] == [126] * 3
    assert method.uplink_bits_formula(flat(1003)) == 1003


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("algorithm=mv_sto_signsgd algorithm.R=0", "algorithm.R=0: must be a number > 0"),
        ("algorithm=mv_sto_signsgd algorithm.R=-0.001", "algorithm.R=-0.001: must be a number > 0"),
        ("algorithm=mv_sto_signsgd algorithm.local_steps=-1", "algorithm.local_steps=-1: must be an integer >= 0"),
        ("algorithm=mv_sto_signsgd algorithm.local_steps=2.5", "algorithm.local_steps=2.5: must be an integer >= 0"),
        ("algorithm=mv_sto_signsgd algorithm.theta=1", "algorithm.theta=1: must be"),
        ("algorithm=mv_sto_signsgd algorithm.alpha=-1", "algorithm.alpha=-1: must be"),
        ("algorithm=sto_signsgd algorithm.server_lr=0", "algorithm.server_lr=0: must be"),
        ("algorithm=sto_signsgd algorithm.theta=-0.5", "algorithm.theta=-0.5: must be"),
        ("algorithm=signsgd algorithm.server_lr_decay=0", "algorithm.server_lr_decay=0: must be"),
    ],
)
def test_values_that_cannot_be_run_are_refused(resolved, override, words):
    with pytest.raises(FedsignError, match=f"^{words}[^\n]*$"):
        Config(resolved(*override.split()))
