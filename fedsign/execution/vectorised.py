"""The clients at hand in one step: their models side by side, one vmapped gradient for all of them.

For small models on a GPU, where launching kernels is what costs. Batches are padded to one size, so that all steps
have one shape, and on a GPU the gradient is compiled and replayed as a CUDA graph. The same batches, masks and draws
as in `serial`; the sums differ in their rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap

from fedsign.execution.batches import CohortBatches
from fedsign.execution.executor import CohortTraining, Executor
from fedsign.local import optimizers
from fedsign.local.streams import Streams
from fedsign.local.training import Step, Trained, WeightMap

Gradients = Callable[[dict[str, Tensor], Tensor, Tensor, Tensor], tuple[dict[str, Tensor], Tensor]]


@dataclass
class Vectorised(Executor):
    """Trains the clients at hand side by side."""

    def __post_init__(self) -> None:
        """Compile the gradient where there is a GPU to replay it."""
        one_client = grad_and_value(self._loss)
        self.gradients: Gradients = vmap(one_client)
        if self.device.type == "cuda":
            self.gradients = torch.compile(self.gradients, mode="reduce-overhead", dynamic=False)

    def _loss(self, parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Loss of one client's padded batch; `weights` [B] make it the mean over the real samples."""
        with self.autocast():
            outputs = functional_call(self.model.module, parameters, (inputs,))
            losses = self.task.losses(outputs, targets)
        return (losses * weights).sum()

    def training(self, clients: list[int], round: int, tail: Tensor) -> VectorisedTraining:
        """Local training of some clients in a round, started from the broadcast dense tail."""
        streams = Streams(self.seed, round, clients, self.device)
        return VectorisedTraining(streams, self.local.learning_rate(round), tail, executor=self)


@dataclass(kw_only=True)
class VectorisedTraining(CohortTraining):
    """Local training of n clients as tensors of shape [n, parameters], those with most steps first."""

    executor: Vectorised

    def __post_init__(self) -> None:
        self.begin(self.executor)
        self.order = sorted(range(len(self.clients)), key=lambda i: -self.step_counts[i])  # row of each place
        self.place = sorted(range(len(self.order)), key=self.order.__getitem__)  # place of each row

    def train(
        self,
        x: Tensor,
        *,
        correction: Tensor | None = None,
        weights: WeightMap | None = None,
        optimizer: optimizers.Optimizer | None = None,
        steps: int | None = None,
    ) -> Trained:
        """See `LocalTraining.train`."""
        d, n = self.layout.coded, len(self.clients)
        optimizer = optimizer or optimizers.named(self.executor.local.optimizer, self.executor.local.momentum)
        lr = self.lr if optimizer.lr is None else optimizer.lr
        v = self._start(x, self.tail)
        state = {name: torch.zeros_like(v) for name in optimizer.names}
        for name, rows in optimizer.start.items():
            state[name][:, :d] = rows.expand(n, d)[self.order]
        correction = None if correction is None else correction[self.order]
        generators = [self.streams.generator("step", i) for i in self.order]
        counts = [steps or self.step_counts[i] for i in self.order]
        batches = self._batches(counts)
        w, g, total = torch.empty_like(v), torch.empty_like(v), torch.zeros(n, device=v.device)
        for k in range(counts[0]):
            m = sum(count > k for count in counts)  # the first m places still train
            effective = v
            if weights is not None:
                w[:, d:] = v[:, d:]
                for at in range(m):
                    step = Step(k + 1, counts[at], generators[at])
                    w[at, :d] = weights.forward(v[at, :d], self.order[at], step)
                effective = w
            losses = self._gradients(effective, batches.at(k), g)
            total[:m] += losses[:m]
            if weights is not None:
                for at in range(m):
                    g[at, :d] = weights.backward(v[at, :d], g[at, :d], self.order[at])
            if correction is not None:
                g[:, :d] += correction
            self.executor.regularise(g, v)
            optimizer.step(v[:m], g[:m], {name: rows[:m] for name, rows in state.items()}, lr, k + 1)
        y = v[self.place]
        self.tails, self.updates = y[:, d:], y[:, :d] - x
        self.log("train_loss", total[self.place] / (steps or self.steps))
        return Trained(y[:, :d].contiguous(), {name: rows[self.place, :d] for name, rows in state.items()})

    def gradient(self, x: Tensor) -> Tensor:
        """See `LocalTraining.gradient`; clipping and coupled weight decay apply as in a local step."""
        d = self.layout.coded
        v = self._start(x, self.tails[self.order])
        g = torch.empty_like(v)
        losses = self._gradients(v, self._batches([1] * len(self.clients)).at(0), g)
        self.executor.regularise(g, v)
        g = g[self.place]
        self.tails, self.updates = self.tails - self.lr * g[:, d:], g[:, :d]
        self.log("train_loss", losses[self.place])
        return g[:, :d].contiguous()

    def _start(self, x: Tensor, tail: Tensor) -> Tensor:
        """The trained variables [n, parameters], in their places."""
        d, n = self.layout.coded, len(self.clients)
        v = torch.empty(n, self.layout.parameters, device=x.device)
        v[:, :d], v[:, d:] = x.expand(n, d)[self.order], tail
        return v

    def _batches(self, steps: Sequence[int]) -> CohortBatches:
        """The batches of the clients, in their places."""
        executor = self.executor
        return CohortBatches(
            executor.task,
            [executor.parts[self.clients[i]] for i in self.order],
            [self.indices[i] for i in self.order],
            [self.augment[i] for i in self.order],
            executor.local.batch_size,
            steps,
            [self.clients[i] in executor.flipped for i in self.order],
        )

    def _gradients(self, v: Tensor, batch: tuple[Tensor, Tensor, Tensor], out: Tensor) -> Tensor:
        """Write the gradients at v [n, parameters] of every client's batch loss to `out`; the losses [n]."""
        segments = [s for s in self.layout.segments if s.stop <= self.layout.parameters]
        parameters = {s.name: v[:, s.start : s.stop].reshape(len(v), *s.shape) for s in segments}
        gradients, losses = self.executor.gradients(parameters, *batch)
        for s in segments:
            out[:, s.start : s.stop] = gradients[s.name].reshape(len(v), -1)
        return losses
