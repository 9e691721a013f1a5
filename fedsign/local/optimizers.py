"""Local optimisers on flat vectors. Each step is elementwise, so a row [d] and a cohort [n, d] are the same code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class Optimizer(ABC):
    """A rule v ← step(v, g).

    Attributes:
        start: state to begin with, name to [d] or [n, d]; zero where no name is given.
        lr: learning rate; None is the round's local learning rate.
    """

    start: Mapping[str, Tensor] = field(default_factory=dict, kw_only=True)
    lr: float | None = field(default=None, kw_only=True)

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the state vectors."""

    @abstractmethod
    def step(self, v: Tensor, g: Tensor, state: State, lr: float, k: int) -> None:
        """Update v and the state in place; k counts the steps from 1."""


@dataclass(frozen=True)
class SGD(Optimizer):
    """v ← v − η b with b ← μ b + g (heavy ball, as torch.optim.SGD); μ = 0 keeps no state."""

    momentum: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """The momentum buffer, if there is momentum."""
        return ("momentum",) if self.momentum else ()

    def step(self, v: Tensor, g: Tensor, state: State, lr: float, k: int) -> None:
        """One step of SGD."""
        if self.momentum:
            g = state["momentum"].mul_(self.momentum).add_(g)
        v.add_(g, alpha=-lr)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba, 2015) with bias correction, as torch.optim.Adam."""

    beta_1: float = 0.9
    beta_2: float = 0.999
    eps: float = 1e-8

    @property
    def names(self) -> tuple[str, ...]:
        """First and second moment."""
        return ("m", "v")

    def step(self, v: Tensor, g: Tensor, state: State, lr: float, k: int) -> None:
        """One step of Adam."""
        m = state["m"].lerp_(g, 1 - self.beta_1)
        s = state["v"].mul_(self.beta_2).addcmul_(g, g, value=1 - self.beta_2)
        root = (s / (1 - self.beta_2**k)).sqrt_().add_(self.eps)
        v.addcdiv_(m, root, value=-lr / (1 - self.beta_1**k))


@dataclass(frozen=True)
class Lion(Optimizer):
    """Lion (Chen et al., 2023): v ← v − η Sign(β1 m + (1−β1) g), then m ← β2 m + (1−β2) g. Sign(0) = 0.

    Attributes:
        counted: also keep the sum of the signs, an exact integer; (v_0 − v_K)/η is it to the rounding of v alone.
    """

    beta_1: float = 0.9
    beta_2: float = 0.99
    counted: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The momentum m, and the sum of the signs if they are counted."""
        return ("m", "count") if self.counted else ("m",)

    def step(self, v: Tensor, g: Tensor, state: State, lr: float, k: int) -> None:
        """One step of Lion, without weight decay."""
        m = state["m"]
        s = torch.sign(self.beta_1 * m + (1 - self.beta_1) * g)
        v.add_(s, alpha=-lr)
        if self.counted:
            state["count"].add_(s)
        m.mul_(self.beta_2).add_(g, alpha=1 - self.beta_2)


def named(name: str, momentum: float) -> Optimizer:
    """The optimiser of ``local.optimizer``; momentum is SGD's alone."""
    return {"sgd": SGD(momentum), "adam": Adam(), "lion": Lion()}[name]
