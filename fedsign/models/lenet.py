"""LeNets: two 5x5 convolutions without padding, each pooled by two, then fully connected layers.

Pooling comes before the ReLU: the same function, since both are monotone, on a quarter of the values.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar

from fedsign.models.mlp import fully_connected
from fedsign.models.model import ModelSpec
from fedsign.options import PositiveInt, options

if TYPE_CHECKING:
    from torch import nn


@options
class LeNet(ModelSpec):
    """FedSMU's and FedDyn's LeNet: channels 64-64, widths 384-192; 797 962 parameters on CIFAR-10.

    Attributes:
        channels: of the two convolutions (128-128 is the larger network of FedSMU's Table 10).
        hidden: widths of the fully connected layers before the output.
    """

    smallest: ClassVar[int] = 16

    channels: tuple[PositiveInt, PositiveInt]
    hidden: tuple[PositiveInt, ...]

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Convolutional and linear layers with biases and torch's default initialisation."""
        from torch import nn

        c, height, width = shape
        first, second = self.channels
        features = second * _pooled_twice(height) * _pooled_twice(width)
        layers: dict[str, nn.Module] = {
            "conv1": nn.Conv2d(c, first, 5), "pool1": nn.MaxPool2d(2), "relu1": nn.ReLU(),
            "conv2": nn.Conv2d(first, second, 5), "pool2": nn.MaxPool2d(2), "relu2": nn.ReLU(),
            "flatten": nn.Flatten(),
        }  # fmt: skip
        return nn.Sequential(OrderedDict(layers | fully_connected([features, *self.hidden, classes])))


def _pooled_twice(side: int) -> int:
    return ((side - 4) // 2 - 4) // 2
