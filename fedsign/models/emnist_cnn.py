"""The EMNIST network of z-SignFedAvg's authors."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar

from fedsign.models.model import ModelSpec
from fedsign.options import options

if TYPE_CHECKING:
    from torch import nn


@options
class EmnistCnn(ModelSpec):
    """Two strided convolutions, each followed by an overlapping pooling (``avg_lion_emnist.py`` of TZW1998/FedLion)."""

    smallest: ClassVar[int] = 14

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Layers with biases and torch's default initialisation."""
        from torch import nn

        c, height, width = shape
        layers = {
            "conv1": nn.Conv2d(c, 16, 8, stride=2, padding=3), "relu1": nn.ReLU(), "pool1": nn.MaxPool2d(2, stride=1),
            "conv2": nn.Conv2d(16, 32, 4, stride=2), "relu2": nn.ReLU(), "pool2": nn.MaxPool2d(2, stride=1),
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(32 * _remaining(height) * _remaining(width), 32), "relu_fc1": nn.ReLU(),
            "fc2": nn.Linear(32, classes),
        }  # fmt: skip
        return nn.Sequential(OrderedDict(layers))


def _remaining(side: int) -> int:
    return (side // 2 - 5) // 2
