"""One client after the other on one device: the reference that every other executor must equal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fedsign.config import Local
from fedsign.data.tasks import Task
from fedsign.local import optimizers
from fedsign.local.streams import Streams
from fedsign.local.training import LocalTraining, Step, Trained, WeightMap
from fedsign.models.parameters import FlatModel

CHUNK_VALUES = 64 * 2**20  # clients are handed to a method in chunks of at most this many values [n, d]: 256 MiB


@dataclass
class Serial:
    """Trains cohorts in this process, on one resident model.

    Attributes:
        seed: of the run.
        model: the resident model; its vector is overwritten.
        task: data and loss.
        local: the config of local training.
        parts: indices of each client's training samples, int64 on the device.
        precision: ``f32``, ``tf32`` or ``bf16`` (autocast of the forward pass).
        flipped: ids of the clients who train on labels C − 1 − y.
    """

    seed: int
    model: FlatModel
    task: Task
    local: Local
    parts: list[Tensor]
    precision: str
    flipped: frozenset[int] = frozenset()

    @property
    def device(self) -> torch.device:
        """Where training happens."""
        return self.model.vector.device

    def split(self, cohort: list[int]) -> list[list[int]]:
        """The cohort in chunks whose [n, d] tensors stay small."""
        size = max(1, CHUNK_VALUES // self.model.layout.parameters)
        return [cohort[i : i + size] for i in range(0, len(cohort), size)]

    def training(self, clients: list[int], round: int, tail: Tensor) -> SerialTraining:
        """Local training of some clients in a round, started from the broadcast dense tail."""
        streams = Streams(self.seed, round, clients, self.device)
        return SerialTraining(self, streams, self.local.learning_rate(round), tail)


@dataclass
class SerialTraining(LocalTraining):
    """See `LocalTraining`. After `train`, `tails` and `updates` hold what the simulator sends and measures.

    Attributes:
        tails: the trained dense tail of each client, [n, tail]; the broadcast one before training.
        updates: y_K − y_0 of the last training, or the gradient, [n, d].
        logs: recorded numbers per client, name to [n].
    """

    executor: Serial
    streams: Streams
    lr: float
    tail: Tensor
    updates: Tensor | None = None
    logs: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        samples = [len(self.executor.parts[c]) for c in self.streams.clients]
        self.clients = self.streams.clients
        device = self.executor.device
        self.samples = torch.tensor(samples, device=device)
        self.steps = torch.tensor([self.executor.local.steps_of(s) for s in samples], device=device)
        self.layout = self.executor.model.layout
        self.tails = self.tail.expand(len(self.clients), -1)

    def log(self, name: str, values: Tensor) -> None:
        """Record a number per client."""
        self.logs[name] = values.detach().float()

    def train(
        self,
        x: Tensor,
        *,
        correction: Tensor | None = None,
        weights: WeightMap | None = None,
        optimizer: optimizers.Optimizer | None = None,
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
            v, losses[i] = self._train_one(i, start[i], row_correction, weights, optimizer, state)
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
    ) -> tuple[Tensor, Tensor]:
        """The local steps of one client: its trained variable [parameters] and its mean loss.

        Without a weight map the variable is the resident model's own vector, valid until the next client.
        """
        model = self.executor.model
        d, parameters = model.layout.coded, model.layout.parameters
        model.vector[:d], model.vector[d:] = start, self.tail
        v = model.vector[:parameters] if weights is None else model.vector[:parameters].clone()
        lr = self.lr if optimizer.lr is None else optimizer.lr
        steps = self.executor.local.steps_of(len(self.executor.parts[self.clients[i]]))
        generator = self.streams.generator("step", i)
        total = torch.zeros((), device=start.device)
        with self._module_draws(i):
            for k, (inputs, targets) in enumerate(self._batches(i, steps), start=1):
                if weights is not None:
                    model.vector[:d] = weights.forward(v[:d], i, Step(k, steps, generator))
                    model.vector[d:parameters] = v[d:]
                g = self._backward(inputs, targets, total)
                if weights is not None:
                    g[:d] = weights.backward(v[:d], g[:d], i)
                if correction is not None:
                    g[:d] += correction
                self._regularise(g, v)
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
            model.vector[:d], model.vector[d:] = start[i], self.tail
            inputs, targets = next(self._batches(i, 1))
            with self._module_draws(i):
                g = self._backward(inputs, targets, losses[i])
            self._regularise(g, model.vector[:parameters])
            gradients[i] = g[:d]
            tails[i, : parameters - d] = self.tail[: parameters - d] - self.lr * g[d:]
            tails[i, parameters - d :] = model.vector[parameters:]
        self.tails, self.updates = tails, gradients
        self.log("train_loss", losses)
        return gradients

    @contextlib.contextmanager
    def _module_draws(self, row: int) -> Iterator[None]:
        """Within, what a module draws of torch's own generator (dropout) is the client's stream."""
        device = self.executor.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(self.streams.numpy("module", row).integers(2**63)))
            yield

    def _backward(self, inputs: Tensor, targets: Tensor, total: Tensor) -> Tensor:
        """Gradient of the batch loss, in the model's gradient buffer; the loss is added to `total`."""
        model, executor = self.executor.model, self.executor
        model.gradient.zero_()
        bf16 = executor.precision == "bf16"
        with torch.autocast(inputs.device.type, torch.bfloat16) if bf16 else contextlib.nullcontext():
            loss = executor.task.loss(model.module(inputs), targets)
        loss.backward()
        total += loss.detach()
        return model.gradient

    def _regularise(self, g: Tensor, v: Tensor) -> None:
        """Clip the gradient to a global norm, then add coupled weight decay, as SGD does in the authors' code."""
        local = self.executor.local
        if local.clip_norm is not None:
            g.mul_((local.clip_norm / (g.norm() + 1e-6)).clamp(max=1))
        if local.weight_decay:
            g.add_(v, alpha=local.weight_decay)

    def _batches(self, row: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of one client: its samples in shuffled epochs, cycled until the steps are done."""
        executor = self.executor
        part = executor.parts[self.clients[row]]
        order, augment = self.streams.numpy("order", row), self.streams.numpy("augment", row)
        size = executor.local.batch_size
        done = 0
        while done < steps:
            shuffled = part[torch.from_numpy(order.permutation(len(part))).to(part.device)]
            for indices in shuffled.split(size)[: steps - done]:
                inputs, targets = executor.task.batch(indices, augment)
                flip = self.clients[row] in executor.flipped
                yield inputs, executor.task.classes - 1 - targets if flip else targets
                done += 1


def client_parts(parts: list[np.ndarray], device: torch.device) -> list[Tensor]:
    """Sample indices per client as tensors on the device."""
    return [torch.from_numpy(np.asarray(part, dtype=np.int64)).to(device) for part in parts]
