"""A model as the config names it: an options class that builds a torch module when asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from fedsign.data.dataset import Kind
from fedsign.errors import ConfigError
from fedsign.options import options

if TYPE_CHECKING:
    from torch import nn

    from fedsign.data.dataset import Dataset


@options
class ModelSpec(ABC):
    """What every model has.

    Attributes:
        kind: the kind of dataset it takes.
        smallest: least height and width of an image it takes, in pixels, where that is the same for every choice of
            its keys (else see `smallest_side`).
        normalised: whether its activations are normalised, so that the scale of the weights does not matter.
    """

    kind: ClassVar[Kind] = "image"
    smallest: ClassVar[int] = 1
    normalised: ClassVar[bool] = False

    name: str

    def check(self, dataset: Dataset) -> None:
        """Refuse a dataset that the model does not fit. Raises ConfigError."""
        if dataset.kind != self.kind:
            raise ConfigError(
                f"model={self.name}: takes {self.kind} datasets, and dataset={dataset.name} is of kind {dataset.kind}"
            )
        if self.kind == "image":
            _, height, width = dataset.dimensions()[0]
            side = self.smallest_side()
            if min(height, width) < side:
                raise ConfigError(
                    f"model={self.name}: needs images of at least {side}x{side} pixels, and "
                    f"dataset={dataset.name} has {height}x{width}"
                )

    def smallest_side(self) -> int:
        """Least height and width of an image it takes, in pixels."""
        return self.smallest

    @abstractmethod
    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module of freshly initialised parameters (torch's generator must have been seeded).

        Args:
            shape: of one sample: (C, H, W), (characters,) of a text window, or (d,) for vectors.
            classes: number of outputs.
        """
