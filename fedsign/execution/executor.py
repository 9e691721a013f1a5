"""What the ways of training a cohort share."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from fedsign.config import Local
from fedsign.data.tasks import Each, Task, every_one_here
from fedsign.execution.batches import shuffled_epochs
from fedsign.local.streams import Streams
from fedsign.local.training import LocalTraining
from fedsign.models.parameters import FlatModel

# Clients are handed to a method in chunks of at most this many values [n, d], of which it holds several at a time.
CHUNK_VALUES = 8 * 2**20  # on a CPU: 32 MiB
GPU_CHUNK_VALUES = 64 * 2**20  # on a GPU, where a chunk is trained side by side


@dataclass
class Executor(ABC):
    """Trains clients in this process, on one resident model.

    Attributes:
        seed: of the run.
        model: the resident model; its vector is overwritten.
        task: data and loss.
        local: the config of local training.
        parts: indices of each client's training samples, int64 on the device.
        precision: ``f32``, ``tf32`` or ``bf16`` (autocast of the forward pass).
        flipped: ids of the clients who train on labels C − 1 − y.
        validation: indices of the training samples that no client trains on, int64 on the device.
    """

    seed: int
    model: FlatModel
    task: Task
    local: Local
    parts: list[Tensor]
    precision: str
    flipped: frozenset[int] = frozenset()
    validation: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    @property
    def device(self) -> torch.device:
        """Where training happens."""
        return self.model.vector.device

    def split(self, clients: list[int]) -> list[list[int]]:
        """The clients in chunks whose [n, d] tensors stay small."""
        most = GPU_CHUNK_VALUES if self.device.type == "cuda" else CHUNK_VALUES
        size = max(1, most // self.model.layout.parameters)
        return [clients[i : i + size] for i in range(0, len(clients), size)]

    def samples(self, clients: list[int]) -> list[int]:
        """Number of training samples of each client."""
        return [len(self.parts[client]) for client in clients]

    @abstractmethod
    def training(self, clients: list[int], round: int, tail: Tensor) -> CohortTraining:
        """Local training of some clients in a round, started from the broadcast dense tail."""

    def evaluate(
        self, model: Tensor, tail: Tensor, prefix: str, batch_size: int, train: bool, each: Each = every_one_here
    ) -> dict[str, float]:
        """Columns of metrics.csv for a model [coded] with its tail.

        `train` adds those of the training split. The main model, of prefix ``test``, is also measured on the samples
        that are held out, if there are any.
        """
        flat = self.model
        flat.vector[: flat.layout.coded], flat.vector[flat.layout.coded :] = model, tail
        measured = self.task.evaluate(flat.module, prefix, batch_size, each)
        if prefix == "test" and len(self.validation):
            measured |= self.task.evaluate_training_samples(
                flat.module, "validation", batch_size, each, self.validation
            )
        if train:
            measured |= self.task.evaluate_training_samples(flat.module, "global_train", batch_size, each)
        return measured

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The forward pass in bfloat16, if that is the precision."""
        if self.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def regularise(self, g: Tensor, v: Tensor) -> None:
        """Clip gradients [..., parameters] to a global norm each, then add coupled weight decay; in place.

        In this order, as SGD does in the authors' code.
        """
        if self.local.clip_norm is not None:
            g.mul_((self.local.clip_norm / (g.norm(dim=-1, keepdim=True) + 1e-6)).clamp(max=1))
        if self.local.weight_decay:
            g.add_(v, alpha=self.local.weight_decay)


@dataclass
class CohortTraining(LocalTraining):
    """See `LocalTraining`. After `train`, `tails` and `updates` hold what the simulator sends and measures.

    Attributes:
        tail: the broadcast dense tail.
        tails: the trained dense tail of each client, [n, tail]; the broadcast one before training.
        updates: y_K − y_0 of the last training, or the gradient, [n, d].
        logs: recorded numbers per client, name to float32 [n].
        indices, augment: where each client is in its data, and its stream of augmentations.
    """

    streams: Streams
    lr: float
    tail: Tensor
    updates: Tensor | None = None
    logs: dict[str, Tensor] = field(default_factory=dict)

    def begin(self, executor: Executor) -> None:
        """Fill in what follows from the executor and the clients."""
        self.clients, device = self.streams.clients, executor.device
        samples = executor.samples(self.clients)
        self.step_counts = [executor.local.steps_of(n) for n in samples]
        self.samples = torch.tensor(samples, device=device)
        self.steps = torch.tensor(self.step_counts, device=device)
        size = executor.local.batch_size
        self.indices = [shuffled_epochs(n, size, self.streams.numpy("order", i)) for i, n in enumerate(samples)]
        self.augment = [self.streams.numpy("augment", i) for i in range(len(samples))]
        self.layout = executor.model.layout
        self.tails = self.tail.expand(len(self.clients), -1)

    def log(self, name: str, values: Tensor) -> None:
        """Record a number per client."""
        self.logs[name] = values.detach().float()


def client_parts(parts: list[np.ndarray], device: torch.device) -> list[Tensor]:
    """Sample indices per client as tensors on the device."""
    return [torch.from_numpy(np.asarray(part, dtype=np.int64)).to(device) for part in parts]


def not_vectorisable(module: nn.Module) -> str | None:
    """Why the clients of this model cannot be trained in one vectorised step; None if they can."""
    from fedsign.models.normalisation import StaticBatchNorm

    for layer in module.modules():
        name = type(layer).__name__
        if isinstance(layer, (nn.modules.batchnorm._BatchNorm, StaticBatchNorm)):
            return f"its {name} would see the padding of small batches"
        if isinstance(layer, nn.Dropout) and layer.p > 0:
            return f"its {name} draws from a stream per client"
        if isinstance(layer, nn.RNNBase):
            return f"its {name} has no vectorised form in torch"
    return None
