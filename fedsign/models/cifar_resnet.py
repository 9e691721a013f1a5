"""ResNet-20, 32, 44, 56 and 110 for 32x32 images, with parameter-free shortcuts (He et al. 2016, Section 4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from fedsign.models.model import ModelSpec
from fedsign.options import options

if TYPE_CHECKING:
    from torch import nn


@options
class CifarResNet(ModelSpec):
    """Stages of 16, 32 and 64 channels, as in ``resnet.py`` of akamaster/pytorch_resnet_cifar10.

    Attributes:
        depth: number of layers, 6 n + 2 with n blocks in a stage.
        norm: ``batch`` is the original's; ``group`` has no running statistics.
        group_size: channels per group of a group normalisation; 4 makes 4, 8 and 16 groups in the three stages, as in
            z-SignFedAvg's code.
    """

    normalised: ClassVar[bool] = True

    depth: Literal[20, 32, 44, 56, 110]
    norm: Literal["batch", "group"]
    group_size: Literal[1, 2, 4, 8, 16]

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Convolutional and linear weights start Kaiming-normal (fan-in), the rest as torch has it."""
        from torch import nn

        from fedsign.models.normalisation import BatchNorm
        from fedsign.models.residual import ResidualNetwork

        def norm(channels: int) -> nn.Module:
            return BatchNorm(channels) if self.norm == "batch" else nn.GroupNorm(channels // self.group_size, channels)

        return ResidualNetwork(shape[0], classes, blocks=(self.depth - 2) // 6, norm=norm)
