"""Random tensors for the clients at hand: row i is a function of (seed, purpose, round, client i) alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from fedsign.randomness import generator


class Streams:
    """Draws of shape [n, d], one independent stream per client; asking twice for a purpose gives the same draw.

    On a CPU they come from the counter-based generator itself; torch's own there would take 32 bits of its seed.
    """

    def __init__(self, seed: int, round: int, clients: Sequence[int], device: torch.device):
        self.seed, self.round, self.clients, self.device = seed, round, list(clients), device

    def generator(self, purpose: str, row: int) -> torch.Generator:
        """The torch generator of one row, on the device, freshly seeded."""
        seed = int(self.numpy(purpose, row).integers(2**63))
        return torch.Generator(self.device).manual_seed(seed)

    def numpy(self, purpose: str, row: int) -> np.random.Generator:
        """The numpy generator of one row."""
        return generator(self.seed, purpose, self.round, self.clients[row])

    def uniform(self, purpose: str, d: int) -> Tensor:
        """Uniform on [0, 1), float32 [n, d]."""
        if self.device.type != "cpu":
            return self._rows(lambda i: torch.rand(d, generator=self.generator(purpose, i), device=self.device))
        return self._rows(lambda i: torch.from_numpy(self.numpy(purpose, i).random(d, dtype=np.float32)))

    def normal(self, purpose: str, d: int) -> Tensor:
        """Standard normal, float32 [n, d]."""
        if self.device.type != "cpu":
            return self._rows(lambda i: torch.randn(d, generator=self.generator(purpose, i), device=self.device))
        return self._rows(lambda i: torch.from_numpy(self.numpy(purpose, i).standard_normal(d, dtype=np.float32)))

    def gamma(self, purpose: str, d: int, shape: float) -> Tensor:
        """Gamma(shape, 1), float32 [n, d]."""
        return self._rows(
            lambda i: torch.from_numpy(self.numpy(purpose, i).standard_gamma(shape, size=d, dtype=np.float32))
        ).to(self.device)

    def _rows(self, row: Callable[[int], Tensor]) -> Tensor:
        return torch.stack([row(i) for i in range(len(self.clients))])
