"""One client after the other on one device: the reference that every other executor must equal."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsign.execution.executor import CohortTraining, Executor
from fedsign.local import optimizers
from fedsign.local.streams import Streams
from fedsign.local.training import Step, Trained, WeightMap


@dataclass
class Serial(Executor):
    """Trains clients one after the other."""

    def training(self, clients: list[int], round: int, tail: Tensor) -> SerialTraining:
        """Local training of some clients in a round, started from the broadcast dense tail."""
        streams = Streams(self.seed, round, clients, self.device)
        return SerialTraining(streams, self.local.learning_rate(round), tail, executor=self)


@dataclass(kw_only=True)
class SerialTraining(CohortTraining):
    """Local training on the resident model's own vectors."""

    executor: Serial

    def __post_init__(self) -> None:
        self.begin(self.executor)

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
        layout = self.layout
        d, n = layout.coded, len(self.clients)
        optimizer = optimizer or optimizers.named(self.executor.local.optimizer, self.executor.local.momentum)
        start = x.expand(n, d)
        y = torch.empty(n, d, device=x.device)
        tails = torch.empty(n, layout.tail, device=x.device)
        losses = torch.empty(n, device=x.device)
        final = {name: torch.empty(n, d, device=x.device) for name in optimizer.names}
        for i in range(n):
            state = {name: torch.zeros(layout.parameters, device=x.device) for name in optimizer.names}
            for name, rows in optimizer.start.items():
                state[name][:d] = rows.expand(n, d)[i]
            row_correction = None if correction is None else correction[i]
            v, losses[i] = self._train_one(i, start[i], row_correction, weights, optimizer, state, steps)
            y[i] = v[:d]
            tails[i, : layout.dense], tails[i, layout.dense :] = v[d:], self.executor.model.vector[layout.parameters :]
            for name, rows in final.items():
                rows[i] = state[name][:d]
        self.tails, self.updates = tails, y - start
        self.log("train_loss", losses)
        return Trained(y, final)

    def _train_one(
        self,
        i: int,
        start: Tensor,
        correction: Tensor | None,
        weights: WeightMap | None,
        optimizer: optimizers.Optimizer,
        state: optimizers.State,
        steps: int | None,
    ) -> tuple[Tensor, Tensor]:
        """The local steps of one client: its trained variable [parameters] and its mean loss.

        Without a weight map the variable is the resident model's own vector, valid until the next client.
        """
        model = self.executor.model
        d, parameters = model.layout.coded, model.layout.parameters
        model.vector[:d], model.vector[d:] = start, self.tail
        v = model.vector[:parameters] if weights is None else model.vector[:parameters].clone()
        lr = self.lr if optimizer.lr is None else optimizer.lr
        steps = steps or self.step_counts[i]
        generator = self.streams.generator("step", i)
        total = torch.zeros((), device=start.device)
        with self._module_draws(i):
            for k, (inputs, targets) in enumerate(itertools.islice(self._batches(i), steps), start=1):
                if weights is not None:
                    model.vector[:d] = weights.forward(v[:d], i, Step(k, steps, generator))
                    model.vector[d:parameters] = v[d:]
                g = self._backward(inputs, targets, total)
                if weights is not None:
                    g[:d] = weights.backward(v[:d], g[:d], i)
                if correction is not None:
                    g[:d] += correction
                self.executor.regularise(g, v)
                optimizer.step(v, g, state, lr, k)
        return v, total / steps

    def gradient(self, x: Tensor) -> Tensor:
        """See `LocalTraining.gradient`; clipping and coupled weight decay apply as in a local step.

        The dense tail takes one step of SGD with the local learning rate.
        """
        model = self.executor.model
        d, parameters = model.layout.coded, model.layout.parameters
        start = x.expand(len(self.clients), d)
        gradients = torch.empty(len(self.clients), d, device=x.device)
        tails = torch.empty(len(self.clients), model.layout.tail, device=x.device)
        losses = torch.zeros(len(self.clients), device=x.device)
        for i in range(len(self.clients)):
            model.vector[:d], model.vector[d:] = start[i], self.tails[i]
            inputs, targets = next(self._batches(i))
            with self._module_draws(i):
                g = self._backward(inputs, targets, losses[i])
            self.executor.regularise(g, model.vector[:parameters])
            gradients[i] = g[:d]
            tails[i, : parameters - d] = self.tails[i, : parameters - d] - self.lr * g[d:]
            tails[i, parameters - d :] = model.vector[parameters:]
        self.tails, self.updates = tails, gradients
        self.log("train_loss", losses)
        return gradients

    @contextlib.contextmanager
    def _module_draws(self, row: int) -> Iterator[None]:
        """Within, what a module draws of torch's own generator (dropout) is the client's stream."""
        device = self.executor.device
        generator = torch.cuda.default_generators[device.index] if device.type == "cuda" else torch.default_generator
        state = generator.get_state()
        generator.manual_seed(int(self.streams.numpy("module", row).integers(2**63)))
        try:
            yield
        finally:
            generator.set_state(state)

    def _backward(self, inputs: Tensor, targets: Tensor, total: Tensor) -> Tensor:
        """Gradient of the batch loss, in the model's gradient buffer; the loss is added to `total`."""
        model, executor = self.executor.model, self.executor
        with executor.autocast():
            loss = executor.task.loss(model.module(inputs), targets)
        gradients = torch.autograd.grad(loss, model.trained, materialize_grads=True)
        torch._foreach_copy_(model.gradients, gradients)
        total += loss.detach()
        return model.gradient

    def _batches(self, row: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The client's batches, without end; a later call goes on where one ended."""
        executor, client = self.executor, self.clients[row]
        part = executor.parts[client]
        for indices in self.indices[row]:
            inputs, targets = executor.task.batch(part[torch.from_numpy(indices).to(part.device)], self.augment[row])
            yield inputs, executor.task.classes - 1 - targets if client in executor.flipped else targets
