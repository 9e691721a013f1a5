"""What a method may ask of local training: the interface that every executor implements.

A method calls `train` or `gradient` with tensors of shape [n, d], n the clients at hand, and gets [n, d] back. Whether
the n rows are trained one after the other, in one vectorised step or on several machines is not its concern.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from fedsign.local.optimizers import Optimizer
from fedsign.models.parameters import Layout


@dataclass(frozen=True)
class Step:
    """Where a client is in its local training.

    Attributes:
        k: local step, from 1 to `total` (the K of its round).
        total: number of local steps K.
        generator: the client's generator for draws made at every step; it moves on from step to step.
    """

    k: int
    total: int
    generator: torch.Generator


class WeightMap(Protocol):
    """From the trained variable v to the weights at which the loss is taken, elementwise, and back.

    FedVote's tanh(a h), FedPM's sampled masks and FedMRN's progressive masks are such maps. A map that draws must draw
    in `forward` alone; `backward` follows the `forward` of the same step.
    """

    def forward(self, v: Tensor, row: int, step: Step) -> Tensor:
        """Effective weights [d] of the client in that row."""

    def backward(self, v: Tensor, gradient: Tensor, row: int) -> Tensor:
        """Gradient in v, given the gradient in the effective weights; both [d]."""


@dataclass(frozen=True)
class Trained:
    """Result of local training.

    Attributes:
        y: the trained variable y_K, float32 [n, d].
        optimizer: the optimiser's final state, name to [n, d] (empty for plain SGD).
    """

    y: Tensor
    optimizer: dict[str, Tensor] = field(default_factory=dict)


class LocalTraining(ABC):
    """Local training of n clients of one round.

    Attributes:
        clients: ids, n of them, in the order of the rows.
        samples: number of training samples of each client, int64 [n].
        steps: number of local steps K of each client, int64 [n].
        step_counts: the same as a list, to be had without waiting for the device.
        lr: local learning rate η of this round.
        layout: of the flat vector, for methods that treat each tensor apart.
    """

    clients: list[int]
    samples: Tensor
    steps: Tensor
    step_counts: list[int]
    lr: float
    layout: Layout

    @abstractmethod
    def train(
        self,
        x: Tensor,
        *,
        correction: Tensor | None = None,
        weights: WeightMap | None = None,
        optimizer: Optimizer | None = None,
        steps: int | None = None,
    ) -> Trained:
        """Train from x for the configured epochs or steps.

        Args:
            x: start point, [d] for all or [n, d].
            correction: added to every gradient, [n, d] (SCAFFOLD's c - c_i).
            weights: map from the trained variable to the effective weights; default identity.
            optimizer: instead of the configured one (FedLion's Lion started from the server's momentum).
            steps: local steps of every client, instead of the configured epochs or steps.
        """

    @abstractmethod
    def gradient(self, x: Tensor) -> Tensor:
        """One stochastic gradient at x ([d] or [n, d]) for each client, [n, d], on its next batch.

        Coded parameters do not move; the dense tail goes on from where it is, with one step.
        """

    @abstractmethod
    def log(self, name: str, values: Tensor) -> None:
        """Record a number per client, [n]; the column `name` of metrics.csv is the cohort's mean."""
