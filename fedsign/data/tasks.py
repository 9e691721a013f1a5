"""A dataset on the device: batches, the loss, and the evaluation of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedsign.data.augment import flip_and_crop
from fedsign.data.consensus import Consensus
from fedsign.data.dataset import Dataset, ImageDataset
from fedsign.errors import DataError


class Task(ABC):
    """What a client trains on and the server evaluates with.

    Attributes:
        shape: of one sample as a model sees it.
        classes: number of outputs of a model.
        labels: of the training samples, int64 [samples], on the host.
        owners: who each training sample comes from, integers [samples] on the host, where the data says so.
    """

    shape: tuple[int, ...]
    classes: int
    labels: np.ndarray
    owners: np.ndarray | None = None

    @abstractmethod
    def batch(self, indices: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Inputs and targets of training samples; `rng` is the client's augmentation stream."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch, a scalar."""

    @abstractmethod
    def evaluate(self, module: nn.Module, prefix: str, batch_size: int) -> dict[str, float]:
        """Columns of metrics.csv for a model on the test split; `prefix` is ``test`` for the main model."""

    def evaluate_train(self, module: nn.Module, batch_size: int) -> dict[str, float]:
        """Columns for a model on the whole training split."""
        return {}


class Classification(Task):
    """Labelled images with cross-entropy. Pixels stay uint8 until a batch is made."""

    def __init__(self, dataset: ImageDataset, device: torch.device):
        """Load the dataset onto the device. Raises DataError if it cannot be read or does not fit the config."""
        arrays = dataset.load()
        self.shape, self.classes, _ = dataset.dimensions()
        for split in ("train", "test"):
            x, y = getattr(arrays, f"x_{split}"), getattr(arrays, f"y_{split}")
            c, h, w = self.shape
            if x.shape[1:] != (h, w, c):
                raise DataError(f"dataset={dataset.name}: images are {x.shape[1:]}; expected (H, W, C) = {(h, w, c)}")
            if len(y) == 0 or y.max() >= self.classes:
                raise DataError(
                    f"dataset={dataset.name}: the {split} labels go up to {y.max(initial=-1)}; expected at least one "
                    f"sample and labels below {self.classes}"
                )
        self.labels, self.owners = arrays.y_train, arrays.owner_train
        self.x_train, self.y_train = (torch.from_numpy(a).to(device) for a in (arrays.x_train, arrays.y_train))
        self.x_test, self.y_test = (torch.from_numpy(a).to(device) for a in (arrays.x_test, arrays.y_test))
        channels = self.shape[0]
        mean = torch.tensor(dataset.mean or [0.0] * channels, device=device)
        std = torch.tensor(dataset.std or [1.0] * channels, device=device)
        self.scale, self.shift = 1 / (255 * std), -mean / std
        self.dataset = dataset

    def batch(self, indices: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Normalised, augmented images [B, C, H, W] (channels last in memory) and labels [B]."""
        x = self._normalise(self.x_train[indices])
        if self.dataset.augment:
            x = flip_and_crop(x, self.dataset.crop_padding, self.dataset.crop_probability, rng)
        return x.permute(0, 3, 1, 2), self.y_train[indices]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(outputs, targets)

    def evaluate(self, module: nn.Module, prefix: str, batch_size: int) -> dict[str, float]:
        """``<prefix>_accuracy`` in [0, 1] and ``<prefix>_loss`` on the test split."""
        return self._evaluate(module, prefix, batch_size, self.x_test, self.y_test)

    def evaluate_train(self, module: nn.Module, batch_size: int) -> dict[str, float]:
        """``global_train_accuracy`` and ``global_train_loss``, without augmentation."""
        return self._evaluate(module, "global_train", batch_size, self.x_train, self.y_train)

    def _evaluate(self, module: nn.Module, prefix: str, batch_size: int, x: Tensor, y: Tensor) -> dict[str, float]:
        module.eval()
        correct, loss = 0, 0.0
        with torch.no_grad():
            for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
                outputs = module(self._normalise(images).permute(0, 3, 1, 2)).float()
                correct += int((outputs.argmax(dim=1) == labels).sum())
                loss += float(F.cross_entropy(outputs, labels, reduction="sum"))
        module.train()
        return {f"{prefix}_accuracy": correct / len(y), f"{prefix}_loss": loss / len(y)}

    def _normalise(self, x: Tensor) -> Tensor:
        return x.to(torch.float32).mul_(self.scale).add_(self.shift)


class ConsensusTask(Task):
    """f_i(x) = 0.5 ||x − y_i||² with its exact gradient x − y_i: a client's one sample is its target."""

    def __init__(self, dataset: Consensus, device: torch.device):
        """Load the targets y [clients, d] onto the device."""
        self.targets = torch.from_numpy(dataset.load()).to(device)
        self.shape = tuple(self.targets.shape[1:])
        self.classes = 0
        self.labels = np.zeros(len(self.targets), dtype=np.int64)
        self.owners = np.arange(len(self.targets))

    def batch(self, indices: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The targets y_i [B, d], twice: they are the module's input, and nothing is left to compare with."""
        y = self.targets[indices]
        return y, y

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """0.5 ||x − y||², the mean over the batch; `outputs` is x − y."""
        return 0.5 * outputs.square().sum(dim=1).mean()

    def evaluate(self, module: nn.Module, prefix: str, batch_size: int) -> dict[str, float]:
        """``objective``, the mean of f_i over all clients, and ``distance`` = ||x − mean y||."""
        with torch.no_grad():
            difference = module(self.targets).double()
            objective = 0.5 * difference.square().sum(dim=1).mean()
            distance = difference.mean(dim=0).norm()
        columns = {"objective": float(objective), "distance": float(distance)}
        return columns if prefix == "test" else {f"{prefix}_{name}": value for name, value in columns.items()}


def load(dataset: Dataset, device: torch.device) -> Task:
    """The task of a dataset, loaded onto the device. Raises DataError."""
    if isinstance(dataset, Consensus):
        return ConsensusTask(dataset, device)
    assert isinstance(dataset, ImageDataset)
    return Classification(dataset, device)
