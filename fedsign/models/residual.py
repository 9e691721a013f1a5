"""The residual network of `fedsign.models.cifar_resnet` as torch modules (imported where it is built)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters ("option A").

    Where the channels double, the shortcut takes every other pixel and pads with zero channels on both sides.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm):
        super().__init__()
        self.widening = outputs - inputs
        self.stride = 2 if self.widening else 1
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=self.stride, padding=1, bias=False)
        self.norm1 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, outputs, H / stride, W / stride], rounded up."""
        residual = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.widening:
            side = self.widening // 2
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, side, side))
        return F.relu(residual + x)


class ResidualNetwork(nn.Module):
    """A 3x3 stem, three stages of residual blocks, the mean over the pixels and a linear layer."""

    def __init__(self, inputs: int, classes: int, blocks: int, norm: Norm):
        super().__init__()
        self.conv = nn.Conv2d(inputs, 16, 3, padding=1, bias=False)
        self.norm = norm(16)
        widths = [16, *(c for c in (16, 32, 64) for _ in range(blocks))]
        self.blocks = nn.Sequential(*(ResidualBlock(a, b, norm) for a, b in pairwise(widths)))
        self.fc = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] to one value per class, [B, classes]."""
        return self.fc(self.blocks(F.relu(self.norm(self.conv(x)))).mean(dim=(2, 3)))
