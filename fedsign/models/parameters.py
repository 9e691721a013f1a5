"""The flat vector: a model's parameters and buffers as views onto one contiguous float32 vector.

    [ coded parameters | dense parameters | buffers ]
      what the method     the dense tail: crosses the wire in full
      compresses          precision and is averaged

Which parameter is coded is the method's declaration, `codes`. A parameter that it freezes is not in the vector: the
module keeps it as it was initialised, so that it is neither trained nor sent, and everyone has it from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsign.errors import ConfigError
from fedsign.options import Codes

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Segment:
    """Where a tensor lies in the flat vector."""

    name: str
    start: int
    stop: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Order and place of a model's tensors in its flat vector.

    Attributes:
        segments: coded parameters first, then dense parameters, then floating-point buffers.
        coded, dense, buffers: number of values of each of the three.
        tensors: number of coded tensors (the L of "d + 32 L" in papers that send a scale per tensor).
        frozen: names of the parameters outside the vector.
    """

    segments: tuple[Segment, ...]
    coded: int
    dense: int
    buffers: int
    tensors: int
    frozen: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Number of trainable values."""
        return self.coded + self.dense

    @property
    def tail(self) -> int:
        """Length of the dense tail: dense parameters and buffers."""
        return self.dense + self.buffers

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each coded tensor, in their order."""
        return tuple(s.stop - s.start for s in self.segments[: self.tensors])

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of a flat vector, tensor name to tensor."""
        return {s.name: vector[s.start : s.stop].view(s.shape) for s in self.segments}


def layout(model: nn.Module, codes: Codes) -> Layout:
    """Lay out a model's tensors.

    Args:
        model: any module; integer buffers (batch counters) are left out.
        codes: ``all`` codes every parameter but the affine ones of batch normalisations, whose statistics are in the
            tail too; ``weights`` those with at least two axes, so no bias and no normalisation; ``no-last-layer`` the
            weights of all layers but the last, and freezes the last layer and the biases of the coded ones. A model
            that is one vector has no layers: that is coded whatever `codes` says.

    Raises:
        ConfigError: nothing would be coded.
    """
    parameters = dict(model.named_parameters())
    batch_norms = [n for n, module in model.named_modules() if isinstance(module, BATCH_NORMS)]
    affine = {f"{norm}.{tensor}" for norm in batch_norms for tensor in ("weight", "bias")}
    last = _layer(list(parameters)[-1]) if codes == "no-last-layer" else None
    coded = {
        n: p
        for n, p in parameters.items()
        if (n not in affine and _layer(n) != last and (codes == "all" or p.dim() >= 2)) or len(parameters) == 1
    }
    if not coded:
        raise ConfigError(f"algorithm.codes={codes}: leaves no parameter of this model to code; use codes=all")
    rest = {n: p for n, p in parameters.items() if n not in coded}
    still = {last} | {_layer(n) for n in coded} if codes == "no-last-layer" else set()
    frozen = tuple(n for n in rest if _layer(n) in still)
    dense = {n: p for n, p in rest.items() if n not in frozen}
    buffers = {n: b for n, b in model.named_buffers() if b.is_floating_point()}
    segments, at = [], 0
    for name, tensor in [*coded.items(), *dense.items(), *buffers.items()]:
        segments.append(Segment(name, at, at + tensor.numel(), tuple(tensor.shape)))
        at += tensor.numel()
    c, d, b = (sum(t.numel() for t in part.values()) for part in (coded, dense, buffers))
    return Layout(tuple(segments), coded=c, dense=d, buffers=b, tensors=len(coded), frozen=frozen)


def _layer(parameter: str) -> str:
    """Name of the module that a parameter belongs to."""
    return parameter.rpartition(".")[0]


class FlatModel:
    """A model whose tensors are views onto `vector` and whose gradients are views onto `gradient`.

    Attributes:
        module: the model.
        vector: float32 [coded + dense + buffers]; writing to it changes the model.
        gradient: float32 [coded + dense]; ``backward`` adds to it.
        trained, gradients: the parameters that lie in the vector, and their views of `gradient`, in its order.
        frozen: the parameters outside the vector, by name: those of the last layer as they were initialised, biases of
            other layers zero.
    """

    def __init__(self, module: nn.Module, layout: Layout, device: torch.device):
        self.module = module.to(device)
        self.layout = layout
        self.vector = torch.zeros(layout.parameters + layout.buffers, device=device)
        self.gradient = torch.zeros(layout.parameters, device=device)
        tensors = dict(module.named_parameters()) | dict(module.named_buffers())
        for s in layout.segments:
            view = self.vector[s.start : s.stop].view(s.shape)
            view.copy_(tensors[s.name].detach())
            tensors[s.name].data = view
            if s.stop <= layout.parameters:
                tensors[s.name].grad = self.gradient[s.start : s.stop].view(s.shape)
        segments = [s for s in layout.segments if s.stop <= layout.parameters]
        self.trained = [tensors[s.name] for s in segments]
        self.gradients = [self.gradient[s.start : s.stop].view(s.shape) for s in segments]
        last = _layer(list(dict(module.named_parameters()))[-1])
        self.frozen = {name: tensors[name].requires_grad_(False).detach() for name in layout.frozen}
        for name, tensor in self.frozen.items():
            if _layer(name) != last:
                tensor.zero_()

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """Every tensor of the model by its name: views of a flat vector, and the frozen parameters."""
        return self.layout.named(vector) | self.frozen
