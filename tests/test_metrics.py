"""The magnitude-uniformity index, by hand."""

import math

import pytest
import torch

from fedsign.metrics import MagnitudeUniformity


def index(*parts):
    measured = MagnitudeUniformity()
    for part in parts:
        measured.add(torch.tensor(part))
    return measured.value()


def test_one_large_update_against_two_small_ones():
    assert index([[10.0], [-1.0], [-1.0]]) == pytest.approx(12**2 / (3 * 102))  # FedSMU's example +10, -1, -1


@pytest.mark.parametrize("signs", [(1, 1, 1, 1), (1, -1, 1, -1), (-1, -1, -1, -1)])
def test_equal_magnitudes_give_one_whatever_the_signs(signs):
    assert index([[0.3 * sign, 7.0 * sign] for sign in signs]) == pytest.approx(1)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_single_mover_gives_one_over_n(n):
    assert index([[2.0, -3.0]] + [[0.0, 0.0]] * (n - 1)) == pytest.approx(1 / n)


def test_coordinates_are_averaged():
    assert index([[1.0, 1.0], [1.0, 0.0]]) == pytest.approx((1 + 1 / 2) / 2)


def test_coordinates_that_no_client_moved_are_left_out():
    assert index([[1.0, 0.0], [1.0, 0.0]]) == pytest.approx(1)


def test_no_movement_is_not_a_number():
    assert math.isnan(index([[0.0, 0.0], [0.0, 0.0]]))


def test_the_scale_of_a_coordinate_does_not_matter():
    assert index([[1.0], [3.0]]) == pytest.approx(index([[1e-3], [3e-3]]), rel=1e-5)


def test_tiny_updates_are_still_measured():
    assert index([[1e-30], [1e-30]]) == pytest.approx(1)


def test_splitting_the_clients_changes_nothing():
    updates = torch.randn(7, 50, generator=torch.Generator().manual_seed(0)).tolist()
    assert index(updates[:3], updates[3:4], updates[4:]) == index(updates)


def test_it_is_that_of_an_independent_computation():
    updates = torch.randn(4, 30, generator=torch.Generator().manual_seed(1))
    columns = updates.abs().double().T
    expected = sum(float(c.sum()) ** 2 / (4 * float((c**2).sum())) for c in columns) / 30
    assert index(updates.tolist()) == pytest.approx(expected)
