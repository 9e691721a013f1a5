"""ResNet-18 as ImageNet has it: 7x7 stem of stride 2 and max pooling, whatever the size of the images."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from fedsign.models.model import ModelSpec
from fedsign.options import options

if TYPE_CHECKING:
    from torch import nn


@options
class ResNet18(ModelSpec):
    """FedSMU's ResNet-18 (``models/Nets.py`` of lxy66888/fedsmu): torchvision's, with group normalisation.

    Attributes:
        norm: ``group`` has no running statistics; ``batch`` is the original's.
        groups: of each group normalisation.
    """

    normalised: ClassVar[bool] = True

    norm: Literal["group", "batch"]
    groups: Literal[1, 2, 4, 8, 16, 32, 64]

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """torchvision's initialisation: Kaiming-normal convolutions (fan-out), torch's default for the last layer."""
        from torch import nn
        from torchvision.models import resnet18

        from fedsign.models.normalisation import BatchNorm

        network = resnet18(
            num_classes=classes, norm_layer=BatchNorm if self.norm == "batch" else partial(nn.GroupNorm, self.groups)
        )
        if shape[0] != 3:
            network.conv1 = nn.Conv2d(shape[0], 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        return network
