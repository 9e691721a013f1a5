"""What the papers and their theory promise of every method, checked without a reference implementation."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, special, stats
from toys import Given, algorithm, bits_of, fair_signs, flat, lion, round_of, streams

from fedsign import codecs
from fedsign.algorithms.base import send
from fedsign.algorithms.zsign import z_noise

TWO_BETAS = ("algorithm.beta_1=0.9", "algorithm.beta_2=0.99")


@pytest.mark.parametrize("lr", [0.01, 0.1, 1.0])
@pytest.mark.parametrize(("method", "clients"), [("fedsmu", 1), ("fed_globallion", 5)])
def test_one_local_step_is_lion_on_the_mean_gradient(consensus, method, clients, lr):
    """Lion of learning rate gamma_1 and weight decay gamma_2; FedSMU with one client alone."""
    y = np.random.default_rng(0).normal(size=(clients, 50))
    keys = (*TWO_BETAS, "algorithm.gamma_1=0.05", "algorithm.gamma_2=0.3", "local.steps=1", f"local.lr={lr}")
    _, x = consensus(y, f"algorithm={method}", *keys, "rounds=20")
    expected = lion(lambda x: x - y.mean(axis=0), np.zeros(50), lr=0.05, weight_decay=0.3)
    np.testing.assert_allclose(x, expected, atol=1e-6)


def test_fedsmu_of_one_client_and_one_step_does_not_see_a_constant_local_lr(consensus):
    y = np.random.default_rng(1).normal(size=(1, 50))
    given = ("algorithm=fedsmu", *TWO_BETAS, "rounds=20", "local.steps=1")
    models = [consensus(y, *given, f"local.lr={lr}")[1] for lr in (2.0**-7, 2.0**-3, 1.0)]
    assert np.array_equal(models[0], models[1]) and np.array_equal(models[0], models[2])


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_fedsmu_of_equal_betas_sends_the_sign_of_the_new_momentum(beta):
    fedsmu = algorithm("fedsmu", beta_1=beta, beta_2=beta)
    m, v = torch.randn(2, 3, 500, generator=torch.Generator().manual_seed(0))
    uplink, state = fedsmu.client(send(x=torch.zeros(500)), {"m": m}, Given(v), streams([0, 1, 2]))
    for row, new in zip(uplink["u"], state["m"], strict=True):
        np.testing.assert_array_equal(bits_of(row, 500), new.numpy() > 0)


@pytest.mark.parametrize(("gamma_1", "gamma_2"), [(0.5, 0.1), (0.5, 2.0), (0.1, 1.0), (1.0, 0.25)])
@pytest.mark.parametrize("start", [0.0, 30.0])
def test_fedsmu_stays_in_its_box(start, gamma_1, gamma_2):
    """||x||_inf <= max(||x_0||_inf, 1/gamma_2) for gamma_1 gamma_2 <= 1, and unanimous signs reach the wall."""
    fedsmu = algorithm("fedsmu", gamma_1=gamma_1, gamma_2=gamma_2)
    server = fedsmu.init(torch.full((40,), start), flat(40))
    bound = max(start, 1 / gamma_2) * (1 + 1e-5)
    for t in range(1, 201):
        votes = fair_signs(5, 40, seed=t)
        votes[:, :3] = 1.0
        sent = codecs.sign("random").encode(votes, streams(range(5), t))
        server = fedsmu.server(server, {"u": sent}, round_of(5, 40, t))
        assert server["x"].abs().max() <= bound
    np.testing.assert_allclose(server["x"][:3], 1 / gamma_2, rtol=1e-3)


@pytest.mark.parametrize("sign_zero", ["random", "zero"])
@pytest.mark.parametrize("n", [1, 2, 5, 31])
def test_mean_of_the_signs_is_exact_and_lies_in_the_unit_box(n, sign_zero):
    fedsmu = algorithm("fedsmu", gamma_1=1.0, gamma_2=0.0, sign_zero=sign_zero)
    votes = fair_signs(n, 400)
    sent = codecs.sign(sign_zero).encode(votes, streams(range(n)))
    u = fedsmu.server({"x": torch.zeros(400)}, {"u": sent}, round_of(n, 400))["x"]
    assert u.abs().max() <= 1
    np.testing.assert_array_equal(u.numpy(), votes.numpy().sum(axis=0) / np.float32(n))


@pytest.mark.parametrize("server_lr", [1.0, 0.3])
def test_fedsmu_without_sign_momentum_and_decay_is_fedavg(consensus, server_lr):
    y = np.random.default_rng(2).normal(size=(9, 20))
    given = ("local.steps=5", "cohort=4", "rounds=8")
    keys = ("bits=32", "beta_1=0", "beta_2=0", "gamma_2=0", f"gamma_1={server_lr}")
    _, fedsmu = consensus(y, "algorithm=fedsmu", *(f"algorithm.{key}" for key in keys), *given)
    _, fedavg = consensus(y, "algorithm=fedavg", f"algorithm.server_lr={server_lr}", *given)
    np.testing.assert_allclose(fedsmu, fedavg, atol=1e-6)


def test_fedavg_of_one_round_is_the_mean_of_the_local_models(consensus):
    y = np.random.default_rng(3).normal(size=(9, 20))
    out, x = consensus(y, "algorithm=fedavg", "local.steps=5", "local.lr=0.1", "cohort=4", "rounds=1")
    cohort = [int(i) for i in pd.read_csv(out / "cohorts.csv")["clients"][0].split()]
    local_models = (1 - (1 - 0.1) ** 5) * y[cohort]  # five steps from 0 towards y_i
    np.testing.assert_allclose(x, local_models.mean(axis=0), atol=1e-6)


def test_fedavg_of_one_step_is_gradient_descent(consensus):
    y = np.random.default_rng(4).normal(size=(9, 20))
    _, x = consensus(y, "algorithm=fedavg", "local.steps=1", "local.lr=0.1", "rounds=6")
    np.testing.assert_allclose(x, (1 - 0.9**6) * y.mean(axis=0), atol=1e-6)  # x <- x - 0.1 (x - mean y)


def test_fedavg_weights_clients_by_their_samples():
    Delta = torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 4.0]])
    sent = {"Delta": codecs.Float32().encode(Delta)}
    by_samples = algorithm("fedavg", weighting="samples")
    x = by_samples.server({"x": torch.zeros(2)}, sent, round_of(3, 2, samples=[10, 30, 60]))["x"]
    np.testing.assert_allclose(x, [-(0.1 + 2.4), -(0.3 + 2.4)], rtol=1e-6)


def test_fedavg_of_equal_clients_is_the_same_by_samples_and_uniform(run):
    given = ("dataset=digits", "model=mlp", "partition=iid", "clients=7", "cohort=3", "rounds=2", "local.epochs=1")
    outs = [run(*given, "algorithm=fedavg", f"algorithm.weighting={name}") for name in ("samples", "uniform")]
    models = [np.load(out / "model.npz") for out in outs]
    for name in models[0].files:
        np.testing.assert_allclose(models[0][name], models[1][name], atol=1e-6)


@pytest.mark.parametrize("z", ["1", "3", "inf"])
def test_zsign_without_noise_is_sign_fedavg_whatever_z(consensus, z):
    y = np.random.default_rng(6).normal(size=(5, 30))
    given = ("algorithm.sigma=0", f"algorithm.z={z}", "algorithm.server_lr=0.4", "local.steps=5", "local.lr=0.1")
    _, x = consensus(y, "algorithm=zsign", *given, "rounds=6")
    expected = np.zeros(30)
    for _ in range(6):
        expected = expected - 0.4 * 0.1 * np.sign(expected - y).mean(axis=0)  # x - y_i^E has the sign of x - y_i
    np.testing.assert_allclose(x, expected, atol=1e-6)


@pytest.mark.parametrize("z", [0.5, 1, 2, 3, 5, 10, 50, 200, math.inf])
def test_z_noise_has_the_z_distribution(z):
    n = 200_000
    xi = z_noise(z, n, streams([0]))[0]
    assert xi.dtype == torch.float32
    assert not (xi == 0).any()
    xi = xi.double().numpy()
    assert stats.kstest(xi, z_cdf(z)).pvalue > 1e-3
    variance, fourth = z_moment(z, 2), z_moment(z, 4)
    assert abs(np.mean(xi**2) - variance) < 5 * math.sqrt((fourth - variance**2) / n)  # Var(xi^2) = E xi^4 - (E xi^2)^2
    assert abs(np.mean(xi)) < 5 * math.sqrt(variance / n)


def z_cdf(z):
    """The density of Definition 1, summed up; scipy's gennorm.cdf underflows near 0 at z = 200."""
    if math.isinf(z):
        return stats.uniform(-1, 2).cdf
    edge = 80 ** (1 / (2 * z))  # where the density has fallen to exp(-40)
    t = np.linspace(-edge, edge, 400_001)
    mass = integrate.cumulative_trapezoid(np.exp(-(np.abs(t) ** (2 * z)) / 2), t, initial=0)
    return lambda x: np.interp(x, t, mass / mass[-1])


def z_moment(z, k):
    """E|xi_z|^k = 2^(k/2z) Gamma((k+1)/2z) / Gamma(1/2z); 1/(k+1) for the uniform law."""
    if math.isinf(z):
        return 1 / (k + 1)
    return 2 ** (k / (2 * z)) * special.gamma((k + 1) / (2 * z)) / special.gamma(1 / (2 * z))


@pytest.mark.parametrize("z", [0.5, 1, 3, 50])
def test_the_z_distribution_is_the_generalised_normal_law(z):
    x = np.linspace(-1.5, 1.5, 31)
    np.testing.assert_allclose(z_cdf(z)(x), stats.gennorm(2 * z, scale=2 ** (1 / (2 * z))).cdf(x), atol=1e-6)


def mean_sign(zsign, v, n=200_000):
    """Mean of n draws of the sign that a client sends for the accumulated gradient v."""
    local = Given(torch.full((1, n), v), lr=0.5)
    uplink, _ = zsign.client(send(x=torch.zeros(n)), {}, local, streams([0]))
    return 2 * bits_of(uplink["Delta"][0], n).mean() - 1


def five_standard_errors(p, n=200_000):
    """Of a mean of n signs of mean p; nothing but rounding where the sign is certain."""
    return 5 * math.sqrt(max(1 - p**2, 0) / n) + 1e-12


@pytest.mark.parametrize("v", [-0.9, -0.4, -0.05, 0.0, 0.2, 0.5, 0.7])
def test_uniform_noise_sends_the_clipped_gradient_in_expectation(v):
    """E[sigma Sign(x + sigma U)] = clip(x, -sigma, sigma)."""
    sigma = 0.6
    p = float(np.clip(v / sigma, -1, 1))
    sent = mean_sign(algorithm("zsign", z=math.inf, sigma=sigma), v)
    assert abs(sent - p) < five_standard_errors(p)


@pytest.mark.parametrize("v", [-1.1, -0.3, 0.1, 0.8])
@pytest.mark.parametrize("z", [0.5, 1, 2, 5])
def test_z_noise_sends_psi_z_in_expectation(z, v):
    """E[eta_z sigma Sign(x + sigma xi_z)] = sigma Psi_z(x / sigma), Psi_z(u) the integral of exp(-t^2z / 2) to u."""
    sigma = 0.6
    psi, _ = integrate.quad(lambda t: math.exp(-(abs(t) ** (2 * z)) / 2), 0, v / sigma)
    p = psi / (2 ** (1 / (2 * z)) * math.gamma(1 + 1 / (2 * z)))
    sent = mean_sign(algorithm("zsign", z=z, sigma=sigma), v)
    assert abs(sent - p) < five_standard_errors(p)


def test_enough_uniform_noise_is_fedavg_in_expectation(consensus):
    """z = inf and sigma > ||v_i||_inf: with eta = sigma, E[x] is FedAvg's iterate. Equal columns are the draws."""
    values, d, lr, sigma = np.array([-1.0, 0.3, 0.9]), 40_000, 0.1, 6.0
    y = np.repeat(values[:, None], d, axis=1)
    given = ("rounds=1", "local.steps=5", f"local.lr={lr}")
    _, fedavg = consensus(y, "algorithm=fedavg", *given)
    noisy = ("algorithm.z=inf", f"algorithm.sigma={sigma}", f"algorithm.server_lr={sigma}")
    _, x = consensus(y, "algorithm=zsign", *noisy, *given)
    v = (1 - (1 - lr) ** 5) * values / lr  # accumulated gradients, up to sign
    variance = (sigma * lr) ** 2 * np.sum(1 - (v / sigma) ** 2) / len(values) ** 2  # of a mean of independent signs
    assert abs(x.mean(dtype=np.float64) - fedavg[0]) < 5 * math.sqrt(variance / d)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 0.999])
def test_two_opposed_clients_never_move_under_little_noise(consensus, sigma):
    """The counter-example of Theorem 3, shifted to x_0 = 0: gradients -1 and 3, no noise below 1 changes a sign."""
    y = np.repeat([[1.0], [-3.0]], 50, axis=1)
    given = ("algorithm=zsign", "algorithm.z=inf", "local.steps=1", "local.lr=0.1", "rounds=20")
    _, x = consensus(y, *given, f"algorithm.sigma={sigma}")
    np.testing.assert_array_equal(x, np.zeros(50))


MAJORITY = [("fedsmu", "u", {"gamma_1": 1.0}), ("signsgd", "s", {"server_lr": 1.0})]


@pytest.mark.parametrize(("name", "part", "step"), MAJORITY)
@pytest.mark.parametrize("n", [2, 10, 20])
def test_fair_votes_tie_as_often_as_fair_coins(name, part, step, n):
    vote = majority(name, part, step, "zero", fair_signs(n, 100_000))
    p = math.comb(n, n // 2) / 2**n
    assert abs((vote == 0).mean() - p) < 5 * math.sqrt(p * (1 - p) / 100_000)


@pytest.mark.parametrize(("name", "part", "step"), MAJORITY)
def test_ties_are_resolved_as_sign_zero_says(name, part, step):
    votes = fair_signs(10, 100_000)
    tie = votes.sum(dim=0).numpy() == 0
    clear = np.sign(votes.sum(dim=0).numpy())[~tie]
    vote = {zero: majority(name, part, step, zero, votes) for zero in ("zero", "plus", "random")}
    for resolved_votes in vote.values():
        np.testing.assert_array_equal(resolved_votes[~tie], clear)
    assert (vote["zero"][tie] == 0).all()
    assert (vote["plus"][tie] == 1).all()
    assert (np.abs(vote["random"][tie]) == 1).all()
    assert abs(vote["random"][tie].mean()) < 5 / math.sqrt(tie.sum())  # a fair sign has variance 1


def majority(name, part, step, zero, votes):
    """The vote that the server moves along, up to its direction."""
    n, d = votes.shape
    method = algorithm(name, **step, aggregate="majority", sign_zero=zero)
    sent = codecs.sign(zero).encode(votes, streams(range(n)))
    server = method.server(method.init(torch.zeros(d), flat(d)), {part: sent}, round_of(n, d))
    return server["x"].numpy() * (1 if name == "fedsmu" else -1)


@pytest.mark.parametrize("aggregate", ["mean", "majority"])
def test_signsgd_without_momentum_steps_along_the_signs_of_the_gradients(consensus, aggregate):
    y = np.random.default_rng(8).normal(size=(5, 30))
    keys = ("algorithm.theta=0", "algorithm.server_lr=0.05", f"algorithm.aggregate={aggregate}", "local.steps=3")
    _, x = consensus(y, "algorithm=signsgd", *keys, "rounds=8")
    expected = np.zeros(30)
    for _ in range(8):
        votes = np.sign(expected - y)
        expected = expected - 0.05 * (votes.mean(axis=0) if aggregate == "mean" else np.median(votes, axis=0))
    np.testing.assert_allclose(x, expected, atol=1e-6)


@pytest.mark.parametrize("c", [1e-6, 0.125, 1e4])
def test_signsgd_does_not_see_the_scale_of_the_gradients(c):
    """Signum too: the momentum of c g is c times the momentum of g."""
    signum = algorithm("signsgd", theta=0.9)
    gradients = torch.randn(4, 2, 300, generator=torch.Generator().manual_seed(1))
    state, scaled = ({"m": torch.zeros(2, 300)} for _ in range(2))
    for t, g in enumerate(gradients, start=1):
        sent, state = signum.client(send(y=torch.zeros(300)), state, Given(g), streams([0, 1], t))
        again, scaled = signum.client(send(y=torch.zeros(300)), scaled, Given(c * g), streams([0, 1], t))
        assert all(torch.equal(a, b) for a, b in zip(sent["s"], again["s"], strict=True))
