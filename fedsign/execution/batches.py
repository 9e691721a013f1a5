"""Which samples every client sees at every local step: shuffled epochs, cycled until the steps are done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedsign.data.tasks import Task


def batches(
    task: Task, part: Tensor, size: int, steps: int, order: np.random.Generator, augment: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """The inputs and targets of one client's local steps.

    Args:
        task: makes batches of samples.
        part: the client's samples, int64 on the device.
        size: of a batch; the last of an epoch may be smaller.
        steps: how many batches.
        order: the client's stream of shuffles.
        augment: the client's stream of augmentations.
    """
    for indices in _indices(len(part), size, steps, order):
        yield task.batch(part[torch.from_numpy(indices).to(part.device)], augment)


def _indices(samples: int, size: int, steps: int, order: np.random.Generator) -> Iterator[np.ndarray]:
    done = 0
    while done < steps:
        shuffled = order.permutation(samples)
        for at in range(0, samples, size)[: steps - done]:
            yield shuffled[at : at + size]
            done += 1


class CohortBatches:
    """The batches of n clients side by side, each padded to one size; the same samples as `batches` gives."""

    def __init__(
        self,
        task: Task,
        parts: Sequence[Tensor],
        size: int,
        steps: Sequence[int],
        order: Sequence[np.random.Generator],
        augment: Sequence[np.random.Generator],
    ):
        """Lay out all steps at once: one transfer to the device per round."""
        n = len(parts)
        width = min(size, max(map(len, parts)))
        table = np.zeros((max(steps), n, width), dtype=np.int64)
        self.sizes = np.zeros((max(steps), n), dtype=np.int64)
        for i in range(n):
            for k, indices in enumerate(_indices(len(parts[i]), size, steps[i], order[i])):
                table[k, i, : len(indices)], self.sizes[k, i] = indices, len(indices)
        device = parts[0].device
        places = torch.from_numpy(table).to(device)
        pool = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)  # [n, longest]
        rows = torch.arange(n, device=device)[:, None]
        self.samples = pool[rows, places]  # [steps, n, width]
        self.task, self.augment, self.width = task, augment, width
        real = torch.from_numpy(np.arange(width) < self.sizes[..., None]).to(device)
        counts = torch.from_numpy(np.maximum(self.sizes, 1)).to(device)
        self.weights = real / counts[..., None]  # [steps, n, width]: the mean over a client's real samples

    def at(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs [n, width, ...], targets [n, width, ...] and weights [n, width] of step k, from 0."""
        n = self.samples.shape[1]
        draws: Any = _Draws(self.augment, self.sizes[k], self.width)
        inputs, targets = self.task.batch(self.samples[k].reshape(-1), draws)
        return inputs.unflatten(0, (n, -1)), targets.unflatten(0, (n, -1)), self.weights[k]


class _Draws:
    """The clients' streams as one: every client draws for its own samples, and nothing for the padding."""

    def __init__(self, streams: Sequence[np.random.Generator], sizes: np.ndarray, width: int):
        self.streams, self.sizes, self.width = streams, sizes, width

    def random(self, size: int) -> np.ndarray:
        return self._laid_out(lambda stream, b: stream.random(b))

    def integers(self, low: int, high: int, size: tuple[int, int]) -> np.ndarray:
        return self._laid_out(lambda stream, b: stream.integers(low, high, size=(size[0], b)))

    def _laid_out(self, draw: Any) -> np.ndarray:
        drawn = [draw(s, b) if b else draw(s, 1) * 0 for s, b in zip(self.streams, self.sizes, strict=True)]
        return np.concatenate([_padded(d, self.width) for d in drawn], axis=-1)


def _padded(draws: np.ndarray, width: int) -> np.ndarray:
    out = np.zeros((*draws.shape[:-1], width), dtype=draws.dtype)
    out[..., : draws.shape[-1]] = draws
    return out
