"""What the tests of the networks share."""

import torch
import yaml

from fedsign import presets
from fedsign.config import build


def spec(name, **keys):
    """The options object of a model's yaml, with some keys set otherwise."""
    values = yaml.safe_load((presets.conf_folder() / "model" / f"{name}.yaml").read_text())
    return build(values | keys, "model.")


def module(name, shape, classes, **keys):
    """A network, initialised from seed 0."""
    torch.manual_seed(0)
    return spec(name, **keys).build(shape, classes)


def assert_normal(tensor, std):
    """Mean, variance and fourth moment are those of N(0, std²), each within five standard errors."""
    z = tensor.detach().double().flatten() / std
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 5 * (variance / len(z)) ** 0.5
