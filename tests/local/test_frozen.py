"""Random weights that both sides draw from a seed."""

import numpy as np
import pytest
import torch
from scipy import stats

from fedsign.local import frozen
from fedsign.models.parameters import Layout, Segment

CPU = torch.device("cpu")
SHAPES = {"conv.weight": (16, 3, 5, 5), "conv.bias": (16,), "fc.weight": (40, 300), "fc.bias": (40,), "gain": (9,)}


def flat():
    at, segments = 0, []
    for name, shape in SHAPES.items():
        size = int(np.prod(shape))
        segments.append(Segment(name, at, at + size, shape))
        at += size
    return Layout(tuple(segments), coded=at, dense=0, buffers=0, tensors=len(segments))


@pytest.mark.parametrize(
    ("name", "fan_in"), [("conv.weight", 75), ("conv.bias", 75), ("fc.weight", 300), ("fc.bias", 300), ("gain", 9)]
)
def test_signed_constants_have_the_scale_of_the_fan_in(name, fan_in):
    w = flat().named(frozen.signed_constants(5, 2.5, flat(), CPU))[name]
    np.testing.assert_allclose(w.abs(), 2.5 / np.sqrt(fan_in), rtol=1e-6)


def test_signs_are_fair_and_follow_the_seed():
    d = flat().coded
    w = [frozen.signed_constants(seed, 1.0, flat(), CPU) for seed in (5, 5, 6)]
    assert torch.equal(w[0], w[1]) and not torch.equal(w[0], w[2])
    assert abs((w[0] > 0).double().mean() - 0.5) < 5 * 0.5 / np.sqrt(d)


def test_normal_weights_are_kaiming_normal():
    w, z = frozen.normals(5, flat(), CPU)
    assert stats.kstest(z.numpy(), stats.norm.cdf).pvalue > 1e-3
    for name, fan_in in (("conv.weight", 75), ("fc.weight", 300)):
        torch.testing.assert_close(flat().named(w)[name], flat().named(z)[name] * np.sqrt(2 / fan_in))


def test_scores_are_standard_normal():
    assert stats.kstest(frozen.scores(3, 50_000, CPU).numpy(), stats.norm.cdf).pvalue > 1e-3
