"""Which samples every client sees at every local step: shuffled epochs, one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedsign.data.tasks import Task


def shuffled_epochs(samples: int, size: int, order: np.random.Generator) -> Iterator[np.ndarray]:
    """Which of a client's samples are in its batches, without end.

    Args:
        samples: how many the client has.
        size: of a batch; the last of an epoch may be smaller.
        order: the client's stream of shuffles.
    """
    while True:
        shuffled = order.permutation(samples)
        for at in range(0, samples, size):
            yield shuffled[at : at + size]


class CohortBatches:
    """The next batches of n clients side by side, each padded to one size."""

    def __init__(
        self,
        task: Task,
        parts: Sequence[Tensor],
        indices: Sequence[Iterator[np.ndarray]],
        augment: Sequence[np.random.Generator],
        size: int,
        steps: Sequence[int],
        flipped: Sequence[bool] = (),
    ):
        """Lay out all steps at once: one transfer to the device per round.

        Args:
            task: makes batches of samples.
            parts: every client's samples, int64 on the device.
            indices: which of them are in its next batches; as many are taken as there are steps.
            augment: the clients' streams of augmentations.
            size: of a batch.
            steps: how many batches each client sees.
            flipped: whether its labels are C − 1 − y.
        """
        n, width = len(parts), min(size, max(map(len, parts)))
        table = np.zeros((max(steps), n, width), dtype=np.int64)
        self.sizes = np.zeros((max(steps), n), dtype=np.int64)
        for i in range(n):
            for k, batch in enumerate(itertools.islice(indices[i], steps[i])):
                table[k, i, : len(batch)], self.sizes[k, i] = batch, len(batch)
        device = parts[0].device
        places = torch.from_numpy(table).to(device)
        pool = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)  # [n, longest]
        rows = torch.arange(n, device=device)[:, None]
        self.samples = pool[rows, places]  # [steps, n, width]
        self.task, self.augment, self.width = task, augment, width
        self.flipped = [i for i, flip in enumerate(flipped) if flip]
        real = torch.from_numpy(np.arange(width) < self.sizes[..., None]).to(device)
        counts = torch.from_numpy(np.maximum(self.sizes, 1)).to(device)
        self.weights = real / counts[..., None]  # [steps, n, width]: the mean over a client's real samples

    def at(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs [n, width, ...], targets [n, width, ...] and weights [n, width] of step k, from 0."""
        n = self.samples.shape[1]
        draws: Any = _Draws(self.augment, self.sizes[k], self.width)
        inputs, targets = self.task.batch(self.samples[k].reshape(-1), draws)
        inputs, targets = inputs.unflatten(0, (n, -1)), targets.unflatten(0, (n, -1))
        if self.flipped:
            targets[self.flipped] = self.task.classes - 1 - targets[self.flipped]
        return inputs, targets, self.weights[k]


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
