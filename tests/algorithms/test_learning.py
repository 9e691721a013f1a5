"""Every method learns real digits with the published values that its yaml holds."""

import json

import pytest
from cases import CASES, FLOORS


@pytest.mark.slow
@pytest.mark.parametrize("method", FLOORS)
def test_method_learns(run, method):
    given, floor = FLOORS[method]
    federation = ("dataset=mnist5k", "partition=iid", "clients=20", "cohort=10", "model=lenet_small")
    out = run(f"algorithm={method}", *federation, *given)
    assert json.loads((out / "summary.json").read_text())["best_accuracy"] > floor


def test_every_method_has_a_floor():
    assert set(FLOORS) == {method for method, _, _ in CASES.values()}
