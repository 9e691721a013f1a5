"""Vision transformers (Dosovitskiy et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fedsign.errors import ConfigError
from fedsign.models.model import ModelSpec
from fedsign.options import PositiveInt, options

if TYPE_CHECKING:
    from torch import nn

    from fedsign.data.dataset import Dataset


@options
class VisionTransformer(ModelSpec):
    """Pre-norm encoder with a class token and learned positions, without dropout.

    FedSMU's Appendix A says of its ViT-S no more than "image patching, positional encoding, and a 12-layer Transformer
    structure"; the widths are those of ViT-S in Steiner et al. 2022.

    Attributes:
        patch: side of a patch in pixels; must divide the image's height and width.
        width: of a token.
        depth: number of blocks.
        heads: attention heads of a block; must divide `width`.
        mlp_ratio: width of a block's hidden layer over `width`.
    """

    normalised: ClassVar[bool] = True

    patch: PositiveInt
    width: PositiveInt
    depth: PositiveInt
    heads: PositiveInt
    mlp_ratio: PositiveInt

    def check(self, dataset: Dataset) -> None:
        """Refuse a width that the heads, or images that the patches, do not divide. Raises ConfigError."""
        super().check(dataset)
        if self.width % self.heads:
            raise ConfigError(f"model.heads={self.heads}: must divide model.width={self.width}")
        _, height, width = dataset.dimensions()[0]
        if height % self.patch or width % self.patch:
            raise ConfigError(
                f"model.patch={self.patch}: must divide the height and width of an image, and "
                f"dataset={dataset.name} has {height}x{width}"
            )

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Weights, class token and positions start N(0, 0.02²), cut off at ±2; biases start at 0."""
        from fedsign.models.transformer import Transformer

        return Transformer(shape, classes, self.patch, self.width, self.depth, self.heads, self.mlp_ratio * self.width)
