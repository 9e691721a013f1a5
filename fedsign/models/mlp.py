"""Multi-layer perceptrons; (64, 64) on 28x28 images is the MLP of Momentum-SIGNSGD (55 050 parameters)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

from fedsign.models.model import ModelSpec
from fedsign.options import PositiveInt, options

if TYPE_CHECKING:
    from torch import nn


@options
class Mlp(ModelSpec):
    """Fully connected layers with ReLU between them.

    Attributes:
        hidden: widths of the hidden layers.
    """

    hidden: tuple[PositiveInt, ...]

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Linear layers with torch's default initialisation."""
        from torch import nn

        widths = [prod(shape), *self.hidden, classes]
        return nn.Sequential(OrderedDict({"flatten": nn.Flatten()} | fully_connected(widths)))


def fully_connected(widths: Sequence[int]) -> dict[str, nn.Module]:
    """Linear layers ``fc1``, ``fc2``, ... through these widths, with a ReLU between two of them."""
    from torch import nn

    layers: dict[str, nn.Module] = {}
    for i, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        layers[f"fc{i}"] = nn.Linear(inputs, outputs)
        layers[f"relu_fc{i}"] = nn.ReLU()
    layers.popitem()
    return layers
