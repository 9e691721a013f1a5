"""Next-character LSTMs for Shakespeare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from fedsign.data.dataset import Kind
from fedsign.models.model import ModelSpec
from fedsign.options import Positive, PositiveInt, options

if TYPE_CHECKING:
    from torch import nn


@options
class CharLstm(ModelSpec):
    """Embedding, LSTM, and a linear layer on the last time step.

    Attributes:
        embedding: length of a character's vector.
        hidden: width of each LSTM layer.
        layers: number of LSTM layers.
        bias: whether the LSTM and the linear layer have biases.
        dropout: probability with which a value between the LSTM and the linear layer is dropped in training.
        init_std: every tensor starts as N(0, init_std²); null is torch's default initialisation.
    """

    kind: ClassVar[Kind] = "text"

    embedding: PositiveInt
    hidden: PositiveInt
    layers: PositiveInt
    bias: bool
    dropout: Annotated[float, Field(ge=0, lt=1, description="a number in [0, 1)")]
    init_std: Positive | None

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module from characters, int64 [B, T], to one value per character of the alphabet, [B, classes]."""
        from torch import nn

        from fedsign.models.recurrent import RecurrentNetwork

        module = RecurrentNetwork(classes, self.embedding, self.hidden, self.layers, self.bias, self.dropout)
        if self.init_std is not None:
            for tensor in module.parameters():
                nn.init.normal_(tensor, std=self.init_std)
        return module
