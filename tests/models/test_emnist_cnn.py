"""The EMNIST network of z-SignFedAvg's authors."""

import pytest
import torch
from specs import module, spec
from torch.nn import functional as F

from fedsign.config import build
from fedsign.errors import ConfigError


def test_it_equals_the_released_function():
    ours = module("emnist_cnn", (1, 28, 28), 10)
    w = ours.state_dict()
    x = torch.randn(5, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    h = F.max_pool2d(F.relu(F.conv2d(x, w["conv1.weight"], w["conv1.bias"], stride=2, padding=3)), 2, 1)
    h = F.max_pool2d(F.relu(F.conv2d(h, w["conv2.weight"], w["conv2.bias"], stride=2)), 2, 1)
    assert h.shape == (5, 32, 4, 4)
    h = F.relu(h.flatten(1) @ w["fc1.weight"].T + w["fc1.bias"])
    torch.testing.assert_close(ours(x), h @ w["fc2.weight"].T + w["fc2.bias"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", [14, 15, 16, 17, 18, 33])
def test_every_image_from_the_smallest_on_fits(side):
    assert module("emnist_cnn", (3, side, side + 3), 7)(torch.zeros(2, 3, side, side + 3)).shape == (2, 7)


def test_smaller_images_are_refused(resolved):
    dataset = build(
        resolved("dataset=npz", "dataset.name=small", "dataset.shape=[1,13,20]", "dataset.classes=10")["dataset"],
        "dataset.",
    )
    with pytest.raises(ConfigError, match="model=emnist_cnn: needs images of at least 14x14 pixels"):
        spec("emnist_cnn").check(dataset)
