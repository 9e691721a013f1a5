"""Convolutional networks with batch normalisation and without biases: those of FedMRN and of FedVote."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from fedsign.models.model import ModelSpec
from fedsign.options import Positive, PositiveInt, options

if TYPE_CHECKING:
    from torch import nn


@options
class StagedCnn(ModelSpec):
    """Stages of convolutions that keep the image's size, each stage ended by a max pooling that halves it.

    Attributes:
        channels: of each stage.
        convolutions: number of convolutions in a stage.
    """

    normalised: ClassVar[bool] = True

    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1, description="a list of integers >= 1, not empty")]
    convolutions: PositiveInt

    def smallest_side(self) -> int:
        """One pixel is left after the poolings."""
        return 2 ** len(self.channels)

    def features(self, shape: tuple[int, ...]) -> int:
        """Number of values that the last stage leaves of an image (C, H, W)."""
        halvings = 2 ** len(self.channels)
        return self.channels[-1] * (shape[1] // halvings) * (shape[2] // halvings)

    def stages(self, inputs: int, kernel: int, norm: Literal["static", "batch"]) -> dict[str, nn.Module]:
        """``conv1``, ``norm1``, ``relu1``, ... and ``flatten``; no convolution has a bias.

        Pooling comes before the ReLU: the same function, since both are monotone, on a quarter of the values.
        """
        from torch import nn

        layers: dict[str, nn.Module] = {}
        for stage, outputs in enumerate(self.channels):
            for i in range(stage * self.convolutions + 1, (stage + 1) * self.convolutions + 1):
                layers[f"conv{i}"] = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
                layers[f"norm{i}"] = batch_norm(norm, outputs)
                if i == (stage + 1) * self.convolutions:
                    layers[f"pool{stage + 1}"] = nn.MaxPool2d(2)
                layers[f"relu{i}"] = nn.ReLU()
                inputs = outputs
        return layers | {"flatten": nn.Flatten()}


@options
class Cnn(StagedCnn):
    """FedMRN's networks: 3x3 convolutions and one linear layer, no bias (``model/cnn.py`` of Leopold1423/fedmrn-mm24).

    Attributes:
        init_std: every convolutional and linear weight starts as N(0, init_std²).
    """

    init_std: Positive

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The normalisations are affine, start as the identity and keep running statistics."""
        from torch import nn

        layers = self.stages(shape[0], 3, "batch") | {"fc": nn.Linear(self.features(shape), classes, bias=False)}
        for layer in layers.values():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(layer.weight, std=self.init_std)
        return nn.Sequential(OrderedDict(layers))


@options
class BinaryCnn(StagedCnn):
    """FedVote's networks: bias-free layers, to have binary weights, before a last one that stays in full precision.

    (FedVote, Section V and Appendix B-E; ``qnn/networks.py`` of KAI-YUE/fedvote, where the biases are frozen at 0.)

    Attributes:
        kernel: height and width of the convolutions.
        hidden: width of the normalised linear layer before the last.
        norm: ``static`` has neither parameters nor running statistics, and uses the batch's also in evaluation, whose
            result then depends on eval.batch_size (100 in the authors' code); ``batch`` is the usual normalisation.
    """

    kernel: Literal[3, 5]
    hidden: PositiveInt
    norm: Literal["static", "batch"]

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Weights start Kaiming-normal (fan-in); the bias of the last layer starts at 0."""
        from torch import nn

        layers = self.stages(shape[0], self.kernel, self.norm)
        layers |= {
            "fc1": nn.Linear(self.features(shape), self.hidden, bias=False),
            "norm_fc1": batch_norm(self.norm, self.hidden),
            "relu_fc1": nn.ReLU(),
            "fc2": nn.Linear(self.hidden, classes),
        }
        for layer in layers.values():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layers["fc2"].bias)  # type: ignore[arg-type]
        return nn.Sequential(OrderedDict(layers))


def batch_norm(norm: Literal["static", "batch"], channels: int) -> nn.Module:
    """The normalisation that the config calls ``static`` or ``batch``."""
    from fedsign.models.normalisation import BatchNorm, StaticBatchNorm

    return StaticBatchNorm() if norm == "static" else BatchNorm(channels)
