"""What the theory promises of FedEF, EF21 and EF-SignSGD."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from test_trajectories import assert_same, expected, overrides
from toys import Given, Watch, algorithm, round_of, streams

from fedsign.algorithms.base import send
from fedsign.config import Config
from fedsign.execution import setup
from fedsign.execution.ranks import Ranks
from fedsign.models.parameters import Layout, Segment
from fedsign.simulator import Simulator

LR, STEPS = 0.1, 3
SHRINK = 1 - (1 - LR) ** STEPS  # of the consensus problem: y_i^K - x = SHRINK (target_i - x)
CODECS = ["topk", "sign", "heavy_sign", "identity"]


@pytest.fixture
def watched(resolved, targets):
    """``watched("algorithm=fedef", ...)``: a run of ten rounds on the consensus problem, and its targets."""

    def go(*given):
        fixed = ("dataset=consensus", "model=vector", "local.epochs=null", "rounds=10", f"dataset.targets={targets}")
        config = Config(resolved(*fixed, f"local.steps={STEPS}", f"local.lr={LR}", *given))
        simulator = Simulator(config, setup.build(config))
        seen = Watch(simulator)
        simulator.run(Ranks(), seen, seen, seen)
        return seen, np.load(targets)

    return go


@pytest.mark.parametrize("cohort", [12, 5])
@pytest.mark.parametrize("server_lr", [1.0, 0.3])
def test_fedef_without_compression_is_fedavg_bit_for_bit(consensus, watched, server_lr, cohort):
    y = np.random.default_rng(0).normal(size=(12, 20))
    given = ("local.steps=5", f"cohort={cohort}", "rounds=8", f"algorithm.server_lr={server_lr}")
    _, fedavg = consensus(y, "algorithm=fedavg", *given)
    _, fedef = consensus(y, "algorithm=fedef", "algorithm.codec=identity", *given)
    assert np.array_equal(fedef, fedavg)
    seen, _ = watched("algorithm=fedef", "algorithm.codec=identity", f"cohort={cohort}")
    assert all((states["e"] == 0).all() for states in seen.states)


@pytest.mark.parametrize("codec", CODECS)
def test_fedef_telescopes(watched, codec):
    """With full participation x_T − η_g mean e_T = x_0 − η_g Σ_t mean Δ_t: nothing is lost, only late."""
    eta = 0.7
    keys = (f"algorithm.codec={codec}", "algorithm.ratio=0.3", f"algorithm.server_lr={eta}")
    seen, y = watched("algorithm=fedef", *keys, "cohort=12")
    exact = np.zeros(7)
    for before, after, states in zip(seen.servers, seen.servers[1:], seen.states[1:], strict=False):
        exact -= eta * SHRINK * (before["x"].double().numpy() - y.mean(axis=0))
        carried = states["e"].double().mean(dim=0).numpy()
        np.testing.assert_allclose(after["x"].numpy() - eta * carried, exact, atol=1e-5)
    assert (np.abs(carried).max() > 1e-3) == (codec != "identity")


@pytest.mark.parametrize("codec", ["topk", "sign", "heavy_sign"])
def test_what_a_client_sends_is_what_it_was_given_less_what_it_keeps(codec):
    """Σ q = Σ Δ − e for every client, whatever it draws for the signs of zeros."""
    n, d = 3, 40
    sizes = (1, 9, 30)
    ends = np.cumsum(sizes)
    segments = tuple(Segment(str(e), e - s, e, (s,)) for s, e in zip(sizes, ends.tolist(), strict=True))
    layout = Layout(segments, coded=d, dense=0, buffers=0, tensors=3)
    fedef = algorithm("fedef", codec=codec, ratio=0.6)
    state, given, sent = {"e": torch.zeros(n, d)}, torch.zeros(n, d), torch.zeros(n, d)
    for t in range(1, 6):
        local = Given(torch.randn(n, d, generator=torch.Generator().manual_seed(t)))
        local.v[:, 20:] = 0.0
        local.layout = layout
        uplink, state = fedef.client(send(x=torch.zeros(d)), state, local, streams(range(n), t))
        given += local.v
        for i in range(n):  # what the server decodes of this client alone
            alone = dataclasses.replace(round_of(1, d, t), layout=layout)
            sent[i] -= fedef.server({"x": torch.zeros(d)}, {"q": [uplink["q"][i]]}, alone)["x"]
    torch.testing.assert_close(sent, given - state["e"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("codec", ["sign", "topk"])
def test_fedef_ams_without_moments_is_fedef_sgd(consensus, codec):
    """beta_1 = 0 and beta_2 = 1 leave v at zero: a step of η_g / √ε."""
    y = np.random.default_rng(1).normal(size=(9, 20))
    given = ("algorithm=fedef", f"algorithm.codec={codec}", "local.steps=2", "cohort=4", "rounds=8")
    _, sgd = consensus(y, *given, "algorithm.server_lr=0.5")
    ams = ("server=ams", "beta_1=0", "beta_2=1", "eps=0.04", "server_lr=0.1")
    _, x = consensus(y, *given, *(f"algorithm.{key}" for key in ams))
    np.testing.assert_allclose(x, sgd, atol=1e-6)


SIGNS_OF_ZERO = {
    "fedef": ("fedef", {"codec": "sign"}),
    "fedef-heavy_sign": ("fedef", {"codec": "heavy_sign", "ratio": 1.0}),
    "fedcams": ("fedcams", {"server_lr": 0.1}),
    "scafcom": ("scafcom", {"codec": "sign"}),
    "ef21": ("ef21", {"codec": "sign"}),
    "ef_signsgd": ("ef_signsgd", {}),
    "ef_signsgd-worker": ("ef_signsgd", {"placement": "worker"}),
    "ef_signsgd-block": ("ef_signsgd", {"placement": "block"}),
}


@pytest.mark.parametrize("sign_zero", ["random", "zero", "plus"])
@pytest.mark.parametrize("case", SIGNS_OF_ZERO)
def test_the_sign_that_is_sent_for_a_zero_is_the_one_that_is_subtracted(run, tmp_path, case, sign_zero):
    """Two coordinates start at every client's target: they are scaled by the others, and e takes that back."""
    y = np.random.default_rng(5).normal(size=(12, 6))
    y[:, :2] = 0.0
    np.save(tmp_path / "zeros.npy", y)
    method, keys = SIGNS_OF_ZERO[case]
    keys = keys | {"sign_zero": sign_zero}
    given = (method, keys, {"lr": 0.25, "steps": 1}, tmp_path / "zeros.npy")
    out = run(*overrides(*given, cohort=8, rounds=4))
    problem, path = expected(*given, out)
    assert_same(out, problem, path)
    assert np.any(path[0][:2]) == (sign_zero != "zero")


def test_ef21_without_compression_and_with_all_clients_is_fedavg(consensus):
    y = np.random.default_rng(2).normal(size=(9, 20))
    given = ("local.steps=5", "rounds=8", "algorithm.server_lr=0.7")
    _, fedavg = consensus(y, "algorithm=fedavg", *given, "cohort=9")
    for warm_start in ("true", "false"):
        keys = ("algorithm.codec=identity", f"algorithm.warm_start={warm_start}")
        _, ef21 = consensus(y, "algorithm=ef21", *keys, *given, "cohort=9")
        np.testing.assert_allclose(ef21, fedavg, atol=1e-6)


def test_ef21_without_compression_steps_along_stale_updates_of_the_absent(consensus):
    y = np.random.default_rng(2).normal(size=(9, 20))
    given = ("local.steps=1", "local.lr=0.1", "rounds=8", "cohort=3")
    out, ef21 = consensus(y, "algorithm=ef21", "algorithm.codec=identity", *given)
    x, last = np.zeros(20), np.zeros((9, 20))
    for row in pd.read_csv(out / "cohorts.csv")["clients"]:
        cohort = [int(i) for i in row.split()]
        last[cohort] = 0.1 * (x - y[cohort])
        x = x - last.sum(axis=0) / 9
    np.testing.assert_allclose(ef21, x, atol=1e-6)
    _, fedavg = consensus(y, "algorithm=fedavg", *given)
    assert np.abs(ef21 - fedavg).max() > 0.01


@pytest.mark.parametrize("cohort", [12, 5])
@pytest.mark.parametrize("warm_start", ["true", "false"])
@pytest.mark.parametrize("codec", CODECS)
def test_the_server_mirrors_the_mean_of_all_g_i(watched, codec, warm_start, cohort):
    keys = (f"algorithm.codec={codec}", "algorithm.ratio=0.3", f"algorithm.warm_start={warm_start}")
    seen, _ = watched("algorithm=ef21", *keys, f"cohort={cohort}")
    for server, states in zip(seen.servers, seen.states, strict=True):
        np.testing.assert_allclose(server["G"], states["g"].double().mean(dim=0), atol=1e-6)
    assert seen.servers[1]["G"].abs().max() > 0.001


def test_a_warm_start_begins_at_the_first_update(watched):
    """And the compressed start does not; both go on compressed."""
    for warm_start in (True, False):
        keys = ("algorithm.ratio=0.3", f"algorithm.warm_start={str(warm_start).lower()}")
        seen, y = watched("algorithm=ef21", *keys, "cohort=5")
        first = seen.states[1]["g"][seen.cohorts[0]].numpy()
        assert np.allclose(first, SHRINK * -y[seen.cohorts[0]], atol=1e-6) == warm_start
        assert (np.count_nonzero(first, axis=1) == (7 if warm_start else 2)).all()


ONE_VALUE = ("local.steps=1", "rounds=12", "cohort=9")  # of d = 1, scaled sign is the identity


@pytest.mark.parametrize("placement", ["server", "worker"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_ef_signsgd_of_one_value_is_momentum_sgd(consensus, placement, momentum):
    y = np.random.default_rng(3).normal(size=(9, 1))
    keys = (f"algorithm.momentum={momentum}", "algorithm.server_lr=0.1")
    _, sgdm = consensus(y, "algorithm=sgdm", *keys, *ONE_VALUE)
    _, x = consensus(y, "algorithm=ef_signsgd", f"algorithm.placement={placement}", *keys, *ONE_VALUE)
    np.testing.assert_allclose(x, sgdm, atol=1e-6)


def test_ef_signsgd_of_one_value_in_block_placement_is_nesterovs(consensus):
    y = np.random.default_rng(3).normal(size=(9, 1))
    keys = ("algorithm.placement=block", "algorithm.momentum=0.9", "algorithm.server_lr=0.1")
    _, sent = consensus(y, "algorithm=ef_signsgd", *keys, *ONE_VALUE)
    x, m = 0.0, 0.0
    for _ in range(12):
        g = x - y.mean()
        m = 0.9 * m + g
        x = x - 0.1 * (g + 0.9 * m)
    np.testing.assert_allclose(sent, x, atol=1e-6)


@pytest.mark.parametrize("placement", ["server", "worker", "block"])
def test_ef_signsgd_without_momentum_follows_sgd_but_for_what_waits(watched, placement):
    """With full participation x_t − (γ) mean e_t − γ ẽ_t moves by −γ times the mean gradient at x_t."""
    gamma = 0.05
    keys = (f"algorithm.placement={placement}", "algorithm.momentum=0", f"algorithm.server_lr={gamma}")
    seen, y = watched("algorithm=ef_signsgd", *keys, "cohort=12")
    exact = np.zeros(7)
    for before, after, states in zip(seen.servers, seen.servers[1:], seen.states[1:], strict=False):
        exact -= gamma * (before["x"].double().numpy() - y.mean(axis=0))
        carried = states["e"].double().mean(dim=0).numpy() * (1 if placement == "worker" else gamma)
        if placement == "block":
            carried = carried + gamma * after["e"].double().numpy()
        np.testing.assert_allclose(after["x"].numpy() - carried, exact, atol=1e-5)
    assert np.abs(carried).max() > 1e-3


@pytest.mark.parametrize("placement", ["server", "worker", "block"])
def test_every_tensor_has_its_own_scale(placement):
    """A tensor of large values does not raise the signs of another; the naive operator, tensor by tensor."""
    g = torch.cat([torch.full((1, 4), 100.0), torch.tensor([[1.0, -3.0, 2.0]])], dim=1)
    layout = Layout((Segment("a", 0, 4, (4,)), Segment("b", 4, 7, (3,))), coded=7, dense=0, buffers=0, tensors=2)
    local = Given(g)
    local.layout = layout
    method = algorithm("ef_signsgd", placement=placement, momentum=0.0, server_lr=0.5)
    state = {name: torch.zeros(1, 7) for name in method.client_state}
    uplink, _ = method.client(send(x=torch.zeros(7)), state, local, streams([0]))
    server = method.init(torch.zeros(7), layout)
    round = dataclasses.replace(round_of(1, 7), layout=layout)
    x = method.server(server, uplink, round)["x"]
    assert x.tolist() == [-50.0] * 4 + [-1.0, 1.0, -1.0]
