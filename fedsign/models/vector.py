"""The model of the consensus problem: the vector x itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fedsign.data.dataset import Kind
from fedsign.models.model import ModelSpec
from fedsign.options import options

if TYPE_CHECKING:
    from torch import nn


@options
class Vector(ModelSpec):
    """One parameter x of the length of a sample, zero at the start; its output on a batch of targets is x - y."""

    kind: ClassVar[Kind] = "vector"

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module with the single parameter ``x``."""
        import torch
        from torch import Tensor, nn

        class Difference(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.x = nn.Parameter(torch.zeros(shape))

            def forward(self, y: Tensor) -> Tensor:
                return self.x - y

        return Difference()
