"""Every method's run on the consensus problem follows the papers' pseudo-code round by round."""

import naive
import numpy as np
import pandas as pd
import pytest
from cases import AT_ZERO, CASES, DRAWS, WANDERING
from cases.draws import SEED

from fedsign import presets

TOLERANCE = 1e-5


def overrides(method, keys, local, targets, **top):
    given = {f"algorithm.{k}": v for k, v in keys.items()} | {f"local.{k}": v for k, v in local.items()} | top
    fixed = [f"algorithm={method}", "dataset=consensus", "model=vector", "local.epochs=null", f"seed={SEED}"]
    return [*fixed, f"dataset.targets={targets}", *(f"{k}={v}" for k, v in given.items())]


def expected(method, keys, local, targets, out):
    """The naive loop of the same config, in the cohorts of that run."""
    y = np.load(targets).astype(np.float32).astype(np.float64)
    cohorts = [[int(i) for i in str(row).split()] for row in pd.read_csv(out / "cohorts.csv")["clients"]]
    problem = naive.Problem(y, cohorts, **local)
    keys = dict(keys)
    draws = DRAWS[method](method, keys, y.shape[1])
    return problem, naive.METHODS[method](problem, **keys, **draws)


def assert_same(out, problem, path):
    metrics = pd.read_csv(out / "metrics.csv")
    assert list(metrics["round"]) == list(range(1, len(path) + 1))
    np.testing.assert_allclose(metrics["distance"], [problem.distance(x) for x in path], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(metrics["objective"], [problem.objective(x) for x in path], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(np.load(out / "model.npz")["x"], path[-1], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("cohort", [12, 5])
@pytest.mark.parametrize("case", CASES)
def test_run_follows_the_pseudo_code(run, targets, case, cohort, steps):
    method, keys, local = CASES[case]
    local = {"lr": 0.1, "steps": steps} | local
    out = run(*overrides(method, keys, local, targets, cohort=cohort, rounds=10))
    problem, path = expected(method, keys, local, targets, out)
    assert_same(out, problem, path)
    assert case in WANDERING or problem.distance(path[-1]) < problem.distance(np.zeros(problem.targets.shape[1]))


@pytest.mark.parametrize("sign_zero", ["random", "zero", "plus"])
@pytest.mark.parametrize("case", AT_ZERO)
def test_run_follows_the_pseudo_code_where_the_sign_is_of_zero(run, tmp_path, case, sign_zero):
    """Of six coordinates, two start at every client's target and one at half of the clients'."""
    y = np.random.default_rng(5).normal(size=(12, 6))
    y[:, :2] = 0.0
    y[::2, 2] = 0.0
    np.save(tmp_path / "zeros.npy", y)
    method, keys = AT_ZERO[case]
    keys, local = keys | {"sign_zero": sign_zero}, {"lr": 0.5, "steps": 1}
    out = run(*overrides(method, keys, local, tmp_path / "zeros.npy", cohort=8, rounds=6))
    problem, path = expected(method, keys, local, tmp_path / "zeros.npy", out)
    assert_same(out, problem, path)
    assert np.any(path[0][:2]) == (sign_zero != "zero")


@pytest.mark.parametrize("case", AT_ZERO)
def test_a_coordinate_without_gradient_rests_drifts_or_wanders_as_sign_zero_says(run, tmp_path, case):
    d, (method, keys) = 20_000, AT_ZERO[case]
    x = {}
    for zero in ("zero", "plus", "random"):
        x[zero] = final(run, tmp_path, np.zeros((3, d)), method, keys | {"sign_zero": zero}, cohort=3, rounds=1)
    step = np.abs(x["plus"][0])
    assert (x["zero"] == 0).all()
    assert step > 0
    assert (x["plus"] == x["plus"][0]).all()
    assert x["random"].std() > 0
    assert abs(x["random"].mean(dtype=np.float64)) < 5 * step / np.sqrt(d)  # a mean sign has variance at most 1


@pytest.mark.parametrize(("sign_zero", "rounds", "symmetric"), [("zero", 8, True), ("plus", 1, False)])
@pytest.mark.parametrize("case", AT_ZERO)
def test_mirrored_targets_mirror_the_run(run, tmp_path, case, sign_zero, rounds, symmetric):
    """Bit for bit where Sign(0) = 0; with `plus` a coordinate without gradient moves up in both."""
    y = np.random.default_rng(7).normal(size=(12, 9))
    y[:, 0] = 0.0
    method, keys = AT_ZERO[case]
    keys = keys | {"sign_zero": sign_zero}
    x, mirrored = (final(run, tmp_path, s * y, method, keys, cohort=6, rounds=rounds) for s in (1, -1))
    assert np.array_equal(mirrored, -x) == symmetric


def final(run, tmp_path, y, method, keys, **top):
    """The final model of a run with these targets."""
    np.save(tmp_path / "y.npy", y)
    out = run(*overrides(method, keys, {"lr": 0.1, "steps": 1}, tmp_path / "y.npy", **top))
    return np.load(out / "model.npz")["x"]


def test_an_epoch_of_the_consensus_problem_is_one_step(run, targets):
    method, keys, _ = CASES["fedsmu"]
    by_steps = run(*overrides(method, keys, {"lr": 0.1, "steps": 5}, targets, rounds=3))
    given = overrides(method, keys, {"lr": 0.1, "steps": "null"}, targets, rounds=3)
    by_epochs = run(*[o for o in given if o != "local.epochs=null"], "local.epochs=5")
    np.testing.assert_array_equal(np.load(by_steps / "model.npz")["x"], np.load(by_epochs / "model.npz")["x"])


def test_every_method_is_compared():
    """A method without a naive loop is a method without proof."""
    shipped = {path.stem for path in (presets.conf_folder() / "algorithm").glob("*.yaml")}
    assert {method for method, _, _ in CASES.values()} == set(naive.METHODS) == shipped
