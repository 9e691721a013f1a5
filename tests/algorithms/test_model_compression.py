"""FedPM, FedMask, HideNseek and FedSparsify: what stays frozen, what the masks become, and what is pruned."""

import hashlib
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from toys import Given, algorithm, bits_of, flat, round_of, streams

from fedsign import codecs
from fedsign.algorithms.base import receive
from fedsign.algorithms.fedsparsify import _kept_in, _sparse
from fedsign.config import Config
from fedsign.errors import ConfigError, PayloadError

D = 50_000
DIGITS = ("dataset=digits", "partition=dirichlet", "model=mlp", "clients=10", "cohort=4", "local.epochs=1")


class Layered(Given):
    """Training whose outcome is given, which knows the layout."""

    def __init__(self, v, d):
        super().__init__(v)
        self.layout = flat(d)


def started(method, d=D, **keys):
    method = algorithm(method, **keys)
    return method, method.init(torch.randn(d, generator=torch.Generator().manual_seed(3)), flat(d))


def step(method, server, v, t=1):
    """The server's state after a round whose clients' training moves the latent variable by −v [n, d]."""
    n, d = v.shape
    uplink, _ = method.client(method.broadcast(server), {}, Layered(v, d), streams(range(n), t))
    return uplink, method.server(server, uplink, round_of(n, d, t))


def digest(tensor):
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("eps", [0.01, 0.2])
def test_fedpm_averages_the_probabilities_in_expectation(eps):
    """E θ = ε + (1 − 2ε) 1/n Σ σ(s_i); of equal scores, coordinates are the draws."""
    fedpm, server = started("fedpm", eps=eps)
    server["theta"] = torch.full((D,), 0.5)  # logit 0
    s = torch.tensor([-1.0, 0.5, 2.0])
    _, server = step(fedpm, server, -s[:, None].expand(3, D))
    sigma = 1 / (1 + np.exp(-s.double().numpy()))
    variance = (1 - 2 * eps) ** 2 * np.sum(sigma * (1 - sigma)) / 9
    expected = eps + (1 - 2 * eps) * sigma.mean()
    assert abs(server["theta"].double().mean() - expected) < 5 * math.sqrt(variance / D)


def test_fedpm_of_one_client_takes_its_mask():
    fedpm, server = started("fedpm", eps=0.01)
    uplink, server = step(fedpm, server, torch.zeros(1, D))
    np.testing.assert_allclose(server["theta"], np.where(bits_of(uplink["m"][0], D), 0.99, 0.01), rtol=1e-5)


def test_fedpm_without_training_sends_masks_of_the_probability_it_received():
    """σ(logit θ) = θ."""
    fedpm, server = started("fedpm")
    theta = server["theta"].clone()
    uplink, _ = step(fedpm, server, torch.zeros(20, D))
    m = codecs.Mask().mean(uplink["m"], D)
    variance = theta * (1 - theta) / 20
    assert abs((m - theta).double().sum()) < 5 * variance.double().sum().sqrt()
    assert abs((m - theta)[theta > 0.8].double().sum()) < 5 * variance[theta > 0.8].double().sum().sqrt()


@pytest.mark.parametrize("method", ["fedpm", "fedmask", "hidenseek"])
def test_the_weights_are_never_trained(method):
    compressor, server = started(method)
    before = digest(server["w"])
    for t in range(1, 4):
        _, server = step(compressor, server, torch.randn(3, D, generator=torch.Generator().manual_seed(t)), t)
    assert digest(server["w"]) == before


@pytest.mark.parametrize("method", ["fedpm", "fedmask", "hidenseek"])
def test_the_seed_of_the_weights_is_all_that_is_sent_of_them(method):
    compressor, server = started(method)
    downlink = compressor.broadcast(server)
    assert set(downlink) == {"theta", "seed"} and len(downlink["seed"]) == 8
    seen = {}

    class Watching(Layered):
        def train(self, x, *, weights=None, **hooks):
            seen["w"] = weights.w
            return super().train(x)

    compressor.client(downlink, {}, Watching(torch.zeros(1, D), D), streams([0]))
    assert torch.equal(seen["w"], server["w"])


@pytest.mark.parametrize("method", ["fedpm", "fedmask", "hidenseek"])
def test_another_initial_model_is_another_network(method):
    compressor = algorithm(method)
    w = [compressor.init(torch.full((D,), value), flat(D))["w"] for value in (0.1, 0.2)]
    assert not torch.equal(*w)


@pytest.mark.parametrize("method", ["fedpm", "fedmask"])
def test_the_model_has_weights_of_one_magnitude_or_none(method):
    compressor, server = started(method)
    _, server = step(compressor, server, torch.randn(3, D, generator=torch.Generator().manual_seed(0)))
    model = compressor.models(server)["test"]
    np.testing.assert_allclose(model[model != 0].abs(), math.e / math.sqrt(D), rtol=1e-5)
    assert 0 < (model == 0).double().mean() < 1


def test_fedpm_evaluates_a_mask_drawn_from_the_votes():
    fedpm, _ = started("fedpm", eps=0.01)
    theta = torch.full((D,), 0.3)
    drawn = fedpm._evaluated(theta, round_of(1, D))
    assert abs(drawn.double().mean() - 0.3) < 5 * math.sqrt(0.3 * 0.7 / D)


def test_fedmask_keeps_what_most_clients_keep():
    fedmask, server = started("fedmask", d=4)
    server["theta"] = torch.full((4,), 0.5)
    s = torch.tensor([[1.0, 1.0, -1.0, 0.0], [1.0, 1.0, -1.0, 0.0], [1.0, -1.0, -1.0, 5.0]])
    _, server = step(fedmask, server, -s)
    np.testing.assert_allclose(server["theta"], 0.01 + 0.98 * np.array([1, 2 / 3, 0, 1 / 3]), rtol=1e-5)
    assert ((fedmask.models(server)["test"] != 0) == torch.tensor([True, True, False, False])).all()


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9, 0.99999])
def test_hidenseek_keeps_the_largest_weights_with_learnt_signs(sparsity):
    hidenseek, server = started("hidenseek", sparsity=sparsity)
    k = max(1, D - int(sparsity * D))
    magnitude = server["w"].abs()
    uplink, server = step(hidenseek, server, torch.randn(3, D, generator=torch.Generator().manual_seed(0)))
    model = hidenseek.models(server)["test"]
    assert int((model != 0).sum()) == k == len(server["keep"])
    assert torch.equal(model.abs(), magnitude)
    assert [len(row) for row in uplink["m"]] == [-(-k // 8)] * 3
    full, _ = started("hidenseek", sparsity=0.0)
    w = full.init(torch.randn(D, generator=torch.Generator().manual_seed(3)), flat(D))["w"].abs()
    assert w[server["keep"]].min() >= np.partition(w.numpy(), D - k)[D - k]


def test_hidenseek_takes_the_sign_that_most_clients_take():
    hidenseek, server = started("hidenseek", d=4, sparsity=0.0)
    server["theta"] = torch.full((4,), 0.5)
    s = torch.tensor([[1.0, 1.0, -1.0, 0.0], [1.0, 1.0, -1.0, 0.0], [1.0, -1.0, -1.0, 5.0]])
    _, server = step(hidenseek, server, -s)
    assert torch.equal(hidenseek.models(server)["test"], server["w"] * torch.tensor([1.0, 1.0, -1.0, -1.0]))


def polynomial(t, s_f, T, q=3.0, F=1):
    """s_t = s_f + (s_0 − s_f) (1 − (F⌊t/F⌋ − t_0)/(T − t_0))^q with s_0 = 0, t_0 = 1."""
    return s_f + (0 - s_f) * (1 - (max(F * (t // F), 1) - 1) / (T - 1)) ** q


@pytest.mark.parametrize(("q", "F"), [(3.0, 1), (1.0, 1), (3.0, 4)])
@pytest.mark.parametrize("prune", ["client", "server"])
def test_the_number_of_weights_follows_the_schedule(prune, q, F):
    T, d, s_f = 12, 5000, 0.97
    keys = {"sparsity": s_f, "exponent": q, "frequency": F, "rounds": T, "prune": prune}
    fedsparsify = algorithm("fedsparsify", schedule="polynomial", **keys)
    server = fedsparsify.init(torch.randn(d, generator=torch.Generator().manual_seed(0)), flat(d))
    counts, models = [], []
    for t in range(1, T + 1):
        v = 0.1 * torch.randn(1, d, generator=torch.Generator().manual_seed(t)) * (server["x"] != 0)
        _, server = step(fedsparsify, server, v, t)
        counts.append(int(server["x"].count_nonzero()))
        models.append(server["x"] != 0)
    expected = [(1 - (polynomial(t, s_f, T, q, F) if t < T else s_f)) * d for t in range(1, T + 1)]
    assert all(abs(a - b) <= 1 for a, b in zip(counts, expected, strict=True))
    assert counts == sorted(counts, reverse=True)
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(models))  # no regrowth


def test_a_constant_sparsity_holds_from_the_first_round():
    fedsparsify = algorithm("fedsparsify", rounds=100)
    server = fedsparsify.init(torch.randn(D, generator=torch.Generator().manual_seed(0)), flat(D))
    _, server = step(fedsparsify, server, torch.zeros(1, D))
    assert abs(int(server["x"].count_nonzero()) - 0.03 * D) <= 1


def test_the_largest_weights_are_kept():
    fedsparsify = algorithm("fedsparsify", sparsity=0.5, rounds=3)
    x = torch.tensor([0.1, -3.0, 0.2, 2.0, -0.3, 1.0])
    _, server = step(fedsparsify, {"x": x}, torch.zeros(2, 6))
    assert torch.equal(server["x"], torch.tensor([0.0, -3.0, 0.0, 2.0, 0.0, 1.0]))


@pytest.mark.parametrize("prune", ["client", "server"])
def test_without_sparsity_it_is_fedavg(run, prune):
    given = (*DIGITS, "rounds=4")
    keys = ("algorithm.sparsity=0", f"algorithm.prune={prune}")
    for weighting in ("uniform", "samples"):
        both = (*given, f"algorithm.weighting={weighting}")
        sparse, fedavg = (
            np.load(run(*both, *method) / "model.npz")
            for method in (("algorithm=fedsparsify", *keys), ("algorithm=fedavg",))
        )
        for name in fedavg.files:
            np.testing.assert_allclose(sparse[name], fedavg[name], atol=2e-6)


def test_pruned_weights_stay_zero_through_training(run):
    keys = ("algorithm.sparsity=0.8", "algorithm.prune=server")
    given = (*DIGITS, "local.lr=1", "algorithm=fedsparsify", *keys)  # what is pruned would grow back at once
    models = [np.load(run(*given, f"rounds={T}") / "model.npz") for T in (2, 5)]
    for name in models[0].files:
        assert not (models[1][name] != 0)[models[0][name] == 0].any()


def test_metrics_count_the_sparse_messages_both_ways(run):
    given = ("algorithm=fedsparsify", "algorithm.sparsity=0.9", "algorithm.prune=server", *DIGITS, "rounds=3")
    metrics = pd.read_csv(run(*given) / "metrics.csv")
    d = 64 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10
    k = int(0.1 * d)
    dense, pruned = 8 * (4 * d + -(-d // 8)), 8 * (4 * k + -(-d // 8))  # a bitmap is shorter than k indices of 14 bits
    assert d < 14 * k
    assert list(metrics["uplink_bits"]) == [4 * sum([dense, pruned, pruned][:t]) for t in (1, 2, 3)]
    assert list(metrics["downlink_bits"]) == [4 * sum([dense, pruned, pruned][:t]) for t in (1, 2, 3)]
    assert metrics["uplink_bits_formula"].iloc[-1] == pytest.approx(metrics["uplink_bits"].iloc[-1], abs=3 * 4 * 8)


def test_the_cubic_schedule_leaves_28_percent_of_the_weights_on_average():
    """About 8.9 bits per parameter in values alone, over 200 rounds to 97 %."""
    fedsparsify = algorithm("fedsparsify", schedule="polynomial", rounds=200)
    density = np.mean([1 - fedsparsify._sparsity(t) for t in range(1, 201)])
    assert abs(density - 0.28) < 0.01
    d = 1_181_536
    places = np.mean([min(1, 21 * (1 - fedsparsify._sparsity(t))) for t in range(1, 201)])
    assert fedsparsify.uplink_bits_formula(flat(d)) / d == pytest.approx(32 * density + places, abs=1e-3)


def test_the_papers_comparison_costs_a_thirty_second_and_the_indices():
    d = 1_181_536
    bits = algorithm("fedsparsify", rounds=200).uplink_bits_formula(flat(d)) / d
    assert bits == pytest.approx(0.03 * (32 + 21), abs=1e-4)  # 0.96 + 0.63


@pytest.mark.parametrize("d", [1, 2, 7, 8, 9, 100, 1000])
def test_a_receiver_learns_the_number_of_values_from_the_length(d):
    for k in range(1, d + 1):
        assert _kept_in(_sparse(k, d).length(d), d) == k
        assert _sparse(k, d).kept(d) == k


def test_a_client_that_sends_more_than_its_share_is_refused():
    fedsparsify = algorithm("fedsparsify", rounds=10)
    dense = codecs.TopK(1.0, "shorter").encode(torch.randn(2, 1000, generator=torch.Generator().manual_seed(0)))
    sparse = codecs.TopK(0.0301, "shorter").encode(torch.ones(1, 1000))
    with pytest.raises(PayloadError) as caught:
        fedsparsify.server({"x": torch.zeros(1000)}, {"y": [*sparse, dense[0]]}, round_of(2, 1000))
    assert caught.value.row == 1


@pytest.mark.parametrize("method", ["fedpm", "fedmask", "hidenseek"])
def test_scores_start_standard_normal(method):
    compressor, server = started(method)
    s = receive(compressor.broadcast(server)["theta"]).logit().double()
    assert abs(s.mean()) < 5 / math.sqrt(len(s)) and abs(s.std() - 1) < 5 / math.sqrt(2 * len(s))


@pytest.mark.parametrize(
    ("method", "given", "named"),
    [
        ("fedpm", "algorithm.eps=0", "algorithm.eps=0"),
        ("fedpm", "algorithm.eps=0.5", "algorithm.eps=0.5"),
        ("fedmask", "local.optimizer=lion", "local.optimizer=lion"),
        ("hidenseek", "algorithm.sparsity=1", "algorithm.sparsity=1"),
        ("hidenseek", "local.momentum=0.5", "local.momentum=0.5"),
        ("fedpm", "local.momentum=0.5", "local.momentum=0.5"),
        ("fedsparsify", "algorithm.sparsity=1", "algorithm.sparsity=1"),
        ("fedsparsify", "algorithm.schedule=cubic", "algorithm.schedule=cubic"),
        ("fedsparsify", "algorithm.prune=both", "algorithm.prune=both"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(resolved, method, given, named):
    with pytest.raises(ConfigError, match=named) as caught:
        Config(resolved(f"algorithm={method}", given))
    assert "\n" not in str(caught.value)
