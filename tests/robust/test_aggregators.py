"""Robust rules: what defines them, what they promise, and that they agree with ByzFL."""

import byzfl
import numpy as np
import pytest
import torch

from fedsign import codecs
from fedsign.robust import aggregators
from fedsign.robust.aggregators import geometric_median, krum, median, multi_krum, squared_distances, trimmed_mean

RULES = {
    "median": median,
    "trimmed_mean": lambda v: trimmed_mean(v, 3),
    "krum": lambda v: krum(v, 3),
    "multi_krum": lambda v: multi_krum(v, 3, 5),
    "geometric_median": geometric_median,
}


@pytest.fixture(params=RULES)
def rule(request):
    return RULES[request.param]


def vectors(n=11, d=40, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32))


def poisoned(n, f, d=40, seed=0, far=1e3):
    """n vectors, the last f of them far away and each in its own direction."""
    v = vectors(n, d, seed)
    v[n - f :] *= far
    return v


@pytest.mark.parametrize("n", [10, 11])
def test_order_of_the_vectors_does_not_matter(rule, n):
    v = vectors(n)
    order = torch.from_numpy(np.random.default_rng(1).permutation(n))
    torch.testing.assert_close(rule(v[order]), rule(v), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [10, 11])
def test_a_translation_moves_the_result_with_it(rule, n):
    v, shift = vectors(n), 3 * vectors(1, seed=2)[0]
    torch.testing.assert_close(rule(v + shift), rule(v) + shift, rtol=0, atol=2e-6)


def test_a_scale_scales_the_result(rule):
    v = vectors()
    torch.testing.assert_close(rule(-4 * v), -4 * rule(v), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [9, 10, 31])
def test_equal_vectors_are_a_fixed_point(rule, n):
    x = vectors(1, d=500)[0]
    torch.testing.assert_close(rule(x.expand(n, -1)), x, rtol=1e-6, atol=0)


@pytest.mark.parametrize("far", [1e3, 1e18])
def test_far_attackers_move_no_rule_far(rule, far):
    v = poisoned(11, 3, far=far)
    assert (rule(v) - v[:8].mean(dim=0)).norm() < 2 * (v[:8] - v[:8].mean(dim=0)).norm(dim=1).max()


@pytest.mark.parametrize(("n", "f"), [(11, 3), (31, 15), (10, 4), (3, 1)])
@pytest.mark.parametrize("name", ["median", "trimmed_mean"])
def test_every_coordinate_lies_among_the_honest_ones(name, n, f):
    v = poisoned(n, f)
    x = median(v) if name == "median" else trimmed_mean(v, f)
    honest = v[: n - f]
    assert ((honest.amin(dim=0) <= x) & (x <= honest.amax(dim=0))).all()


@pytest.mark.parametrize(("n", "f"), [(11, 3), (9, 3), (33, 15), (5, 1)])
def test_krum_returns_one_of_the_vectors_and_an_honest_one(n, f):
    v = poisoned(n, f)
    x = krum(v, f)
    assert any(torch.equal(x, one) for one in v[: n - f])


@pytest.mark.parametrize(("n", "f"), [(11, 3), (9, 3), (33, 15), (3, 0)])
def test_krum_scores_by_the_n_minus_f_minus_2_nearest(n, f):
    """By plain loops; the vectors have lengths of very different size, so that one neighbour more or less tells."""
    v = vectors(n, d=3, seed=4) * torch.from_numpy(np.random.default_rng(9).exponential(size=(n, 1)).astype(np.float32))
    v64 = v.numpy().astype(np.float64)
    scores = []
    for i in range(n):
        distances = sorted(np.sum((v64[i] - v64[j]) ** 2) for j in range(n) if j != i)
        scores.append(sum(distances[: n - f - 2]))
    assert torch.equal(krum(v, f), v[int(np.argmin(scores))])
    best = np.argsort(scores)[: n - f]
    np.testing.assert_allclose(multi_krum(v, f, n - f), v64[best].mean(axis=0), atol=1e-6)


def test_krum_by_hand():
    """Seven numbers: with two neighbours the middle of the near three is best, with three one of the four others."""
    v = torch.tensor([[0.0], [0.1], [0.2], [10.0], [11.0], [12.0], [13.5]])
    assert torch.equal(krum(v, 3), v[1])  # n − f − 2 = 2: 0.1² + 0.1²
    assert torch.equal(krum(v, 2), v[5])  # 3: 1² + 1.5² + 2²; the near three are 9.8 from their third


def test_multi_krum_of_one_is_krum_and_of_all_is_the_mean():
    v = vectors()
    assert torch.equal(multi_krum(v, 2, 1), krum(v, 2))
    torch.testing.assert_close(multi_krum(v, 2, 11), v.mean(dim=0), rtol=0, atol=1e-6)


def test_krum_breaks_ties_by_the_first():
    v = torch.tensor([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])  # one square: all scores are the same
    assert torch.equal(krum(v, 0), v[0])


@pytest.mark.parametrize("n", [3, 5, 31])
def test_geometric_median_of_points_on_a_line_is_their_median(n):
    rng = np.random.default_rng(n)
    places = np.sort(rng.normal(size=n))
    direction = rng.normal(size=20)
    v = torch.from_numpy((rng.permutation(places)[:, None] * direction).astype(np.float32))
    np.testing.assert_allclose(geometric_median(v), places[n // 2] * direction, atol=1e-4)


def test_geometric_median_has_no_better_neighbour():
    """The sum of distances is convex, and at y its gradient Σ (y − v_i)/‖y − v_i‖ is zero."""
    v = vectors(12, d=30, seed=5).double()
    y = geometric_median(v.float()).double()
    pull = ((y - v) / (y - v).norm(dim=1, keepdim=True)).sum(dim=0)
    assert pull.norm() < 1e-4


def test_geometric_median_where_most_points_are_one_is_that_point():
    v = torch.cat([vectors(1, seed=1).expand(6, -1), 100 * vectors(5)])
    torch.testing.assert_close(geometric_median(v), v[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 31])
def test_median_is_the_middle_or_the_mean_of_the_two_in_the_middle(n):
    v = vectors(n, d=300)
    np.testing.assert_array_equal(median(v), np.median(v.numpy(), axis=0))


def test_trimming_fifteen_at_either_end_of_31_leaves_the_median():
    v = vectors(31, d=300)
    assert torch.equal(trimmed_mean(v, 15), median(v))


def test_trimming_nothing_leaves_the_mean():
    v = vectors(31, d=300)
    torch.testing.assert_close(trimmed_mean(v, 0), v.mean(dim=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [1, 3, 31])
def test_median_of_an_odd_number_of_signs_is_the_majority_vote(n):
    s = torch.from_numpy(np.random.default_rng(n).choice([-1.0, 1.0], size=(n, 400)).astype(np.float32))
    vote = torch.sign(s.sum(dim=0))
    assert torch.equal(median(s), vote)
    assert torch.equal(trimmed_mean(s, (n - 1) // 2), vote)
    assert torch.equal(codecs.signs(s.mean(dim=0)[None], "zero", None)[0], vote)


def test_squared_distances_keep_their_digits_far_from_zero():
    """Blocks and differences: two near vectors far from 0, and beside one that is farther still."""
    v = vectors(5, d=3 * 70_000) * torch.tensor([[1e-3], [1e-3], [1.0], [1.0], [1e6]]) + 100.0
    v64 = v.numpy().astype(np.float64)
    exact = ((v64[:, None] - v64[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(squared_distances(v), exact, rtol=1e-12, atol=0)


def test_blocks_of_coordinates_change_nothing(rule, monkeypatch):
    v = vectors(11, d=100)
    whole = rule(v)
    monkeypatch.setattr(aggregators, "BLOCK", 7)
    torch.testing.assert_close(rule(v), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("n", "f"), [(11, 3), (31, 15), (20, 4)])
def test_byzfl_agrees(n, f):
    """ByzFL's Krum counts n − f − 1 neighbours, one more than the paper: its f is one larger for the same score."""
    v = poisoned(n, f, seed=n, far=10.0)
    near = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(trimmed_mean(v, f), byzfl.TrMean(f)(v), **near)
    torch.testing.assert_close(geometric_median(v), byzfl.GeometricMedian(nu=1e-6, T=100)(v), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(median(v), byzfl.Median()(v.numpy()), **near)  # its torch median is the lower one
    if n >= 2 * f + 3:
        torch.testing.assert_close(krum(v, f), byzfl.Krum(f + 1)(v), **near)
        torch.testing.assert_close(multi_krum(v, f, n - f - 1), byzfl.MultiKrum(f + 1)(v), **near)
