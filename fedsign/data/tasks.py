"""A dataset on the device: batches, the loss, and the evaluation of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedsign.data.augment import flip_and_crop
from fedsign.data.consensus import Consensus
from fedsign.data.dataset import Dataset, ImageDataset
from fedsign.data.shakespeare import WINDOW, Shakespeare
from fedsign.errors import DataError

# Takes n and a measurement; gives measurement(0), ..., measurement(n - 1), float64 vectors, in that order. Who takes
# which measurement is its business: several processes may share them.
Each: TypeAlias = Callable[[int, Callable[[int], Tensor]], list[Tensor]]


def every_one_here(n: int, measure: Callable[[int], Tensor]) -> list[Tensor]:
    """All measurements here, one after the other."""
    return [measure(i) for i in range(n)]


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
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of every sample, [B]."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch, a scalar."""
        return self.losses(outputs, targets).mean()

    @abstractmethod
    def evaluate(
        self, module: nn.Module, prefix: str, batch_size: int, each: Each = every_one_here
    ) -> dict[str, float]:
        """Columns of metrics.csv for a model on the test split; `prefix` is ``test`` for the main model."""

    def evaluate_training_samples(
        self,
        module: nn.Module,
        prefix: str,
        batch_size: int,
        each: Each = every_one_here,
        samples: Tensor | None = None,
    ) -> dict[str, float]:
        """Columns for a model on some training samples, without augmentation; None is the whole training split."""
        return {}


class Classification(Task):
    """Samples with a label each, and cross-entropy."""

    y_train: Tensor
    y_test: Tensor

    @abstractmethod
    def test_inputs(self, indices: Tensor) -> Tensor:
        """Inputs of test samples, without augmentation."""

    @abstractmethod
    def train_inputs(self, indices: Tensor) -> Tensor:
        """Inputs of training samples, without augmentation."""

    def batch(self, indices: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Inputs and labels [B] of training samples."""
        return self.train_inputs(indices), self.y_train[indices]

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(outputs, targets, reduction="none")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(outputs, targets)

    def evaluate(
        self, module: nn.Module, prefix: str, batch_size: int, each: Each = every_one_here
    ) -> dict[str, float]:
        """``<prefix>_accuracy`` in [0, 1] and ``<prefix>_loss`` on the test split."""
        samples = torch.arange(len(self.y_test), device=self.y_test.device)
        return _evaluate(module, prefix, batch_size, self.test_inputs, self.y_test, samples, each)

    def evaluate_training_samples(
        self,
        module: nn.Module,
        prefix: str,
        batch_size: int,
        each: Each = every_one_here,
        samples: Tensor | None = None,
    ) -> dict[str, float]:
        """``<prefix>_accuracy`` in [0, 1] and ``<prefix>_loss`` on training samples [n] int64, without augmentation."""
        if samples is None:
            samples = torch.arange(len(self.y_train), device=self.y_train.device)
        return _evaluate(module, prefix, batch_size, self.train_inputs, self.y_train, samples, each)


def _evaluate(
    module: nn.Module,
    prefix: str,
    batch_size: int,
    inputs: Callable[[Tensor], Tensor],
    labels: Tensor,
    samples: Tensor,
    each: Each,
) -> dict[str, float]:
    batches = samples.split(batch_size)

    def counts(i: int) -> Tensor:
        outputs, targets = module(inputs(batches[i])).float(), labels[batches[i]]
        correct = (outputs.argmax(dim=1) == targets).sum()
        return torch.stack([correct.double(), F.cross_entropy(outputs, targets, reduction="sum").double()])

    module.eval()
    with torch.no_grad():
        total = torch.stack(each(len(batches), counts)).cumsum(dim=0)[-1]  # added in the batches' order
    module.train()
    correct, loss = total.tolist()
    return {f"{prefix}_accuracy": correct / len(samples), f"{prefix}_loss": loss / len(samples)}


class Images(Classification):
    """Labelled images. Pixels stay uint8 until a batch is made."""

    def __init__(self, dataset: ImageDataset, device: torch.device):
        """Load the dataset onto the device. Raises DataError if it cannot be read or does not fit the config."""
        arrays = dataset.load()
        self.shape, self.classes = dataset.dimensions()
        source = dataset.npz() if dataset.npz().exists() else f"dataset={dataset.name}"
        for split in ("train", "test"):
            x, y = getattr(arrays, f"x_{split}"), getattr(arrays, f"y_{split}")
            c, h, w = self.shape
            if x.shape[1:] != (h, w, c):
                raise DataError(f"{source}: images are {x.shape[1:]}; expected (H, W, C) = {(h, w, c)}")
            if y.max() >= self.classes:
                raise DataError(f"{source}: the {split} labels go up to {y.max()}; expected below {self.classes}")
        self.labels, self.owners = arrays.y_train, arrays.owner_train
        self.x_train, self.y_train = (torch.from_numpy(a).to(device) for a in (arrays.x_train, arrays.y_train))
        self.x_test, self.y_test = (torch.from_numpy(a).to(device) for a in (arrays.x_test, arrays.y_test))
        mean, std = (_statistics(dataset, key, arrays.x_train) for key in ("mean", "std"))
        self.train_scale, self.train_shift = _affine(mean, std, device)
        self.test_scale, self.test_shift = _affine(dataset.test_mean or mean, dataset.test_std or std, device)
        self.dataset = dataset

    def train_inputs(self, indices: Tensor) -> Tensor:
        """Normalised images [B, C, H, W], channels last in memory."""
        return self._normalised_train(indices).permute(0, 3, 1, 2)

    def test_inputs(self, indices: Tensor) -> Tensor:
        """Normalised images [B, C, H, W], channels last in memory."""
        x = self.x_test[indices].to(torch.float32)
        return x.mul_(self.test_scale).add_(self.test_shift).permute(0, 3, 1, 2)

    def batch(self, indices: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Normalised, augmented images [B, C, H, W], channels last in memory, and labels [B]."""
        x = self._normalised_train(indices)
        if self.dataset.augment:
            x = flip_and_crop(x, self.dataset.crop_padding, self.dataset.crop_probability, rng)
        return x.permute(0, 3, 1, 2), self.y_train[indices]

    def _normalised_train(self, indices: Tensor) -> Tensor:
        return self.x_train[indices].to(torch.float32).mul_(self.train_scale).add_(self.train_shift)


def _statistics(dataset: ImageDataset, key: str, x: np.ndarray) -> tuple[float, ...]:
    """Mean or deviation per channel of pixels in [0, 1], from the config or, for ``train``, of the split as a whole."""
    given = getattr(dataset, key)
    if isinstance(given, tuple):
        return given
    if given is None:
        return (0.0 if key == "mean" else 1.0,) * x.shape[3]
    step = max(1, 2**18 // x[0].size)  # images at a time: counting widens bytes to eight
    counts = sum(np.bincount(x[i : i + step].reshape(-1), minlength=256) for i in range(0, len(x), step))
    share = counts / x.size
    pixels = np.arange(256) / 255
    mean = share @ pixels
    value = mean if key == "mean" else np.sqrt(share @ (pixels - mean) ** 2)
    if key == "std" and value == 0:
        raise DataError(
            f"dataset={dataset.name}: its training images are all of one grey; std=train has nothing to measure"
        )
    return (float(value),) * x.shape[3]


def _affine(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and shift that turn a byte into (byte / 255 - mean) / std."""
    m, s = torch.tensor(mean, device=device), torch.tensor(std, device=device)
    return 1 / (255 * s), -m / s


class NextCharacter(Classification):
    """Windows of a text, each with the character that follows; cut when a batch is made."""

    def __init__(self, dataset: Shakespeare, device: torch.device):
        """Load the dataset onto the device. Raises DataError, ConfigError."""
        windows = dataset.load()
        self.shape, self.classes = dataset.dimensions()
        self.text = torch.from_numpy(windows.text).to(device)
        self.train_starts, self.test_starts = (torch.from_numpy(a).to(device) for a in (windows.train, windows.test))
        self.y_train, self.y_test = (self.text[s + WINDOW].long() for s in (self.train_starts, self.test_starts))
        self.labels, self.owners = self.y_train.cpu().numpy(), windows.owner_train
        self._ahead = torch.arange(WINDOW, device=device)

    def train_inputs(self, indices: Tensor) -> Tensor:
        """Characters, int64 [B, 80]."""
        return self.text[self.train_starts[indices, None] + self._ahead].long()

    def test_inputs(self, indices: Tensor) -> Tensor:
        """Characters, int64 [B, 80]."""
        return self.text[self.test_starts[indices, None] + self._ahead].long()


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

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """0.5 ||x − y||²; `outputs` is x − y."""
        return 0.5 * outputs.square().sum(dim=1)

    def evaluate(
        self, module: nn.Module, prefix: str, batch_size: int, each: Each = every_one_here
    ) -> dict[str, float]:
        """``objective``, the mean of f_i over all clients, and ``distance`` = ||x − mean y||."""

        def measure(_: int) -> Tensor:
            difference = module(self.targets).double()
            return torch.stack([0.5 * difference.square().sum(dim=1).mean(), difference.mean(dim=0).norm()])

        with torch.no_grad():
            (measured,) = each(1, measure)
        columns = dict(zip(("objective", "distance"), measured.tolist(), strict=True))
        return columns if prefix == "test" else {f"{prefix}_{name}": value for name, value in columns.items()}


def load(dataset: Dataset, device: torch.device) -> Task:
    """The task of a dataset, loaded onto the device. Raises DataError."""
    if isinstance(dataset, Consensus):
        return ConsensusTask(dataset, device)
    if isinstance(dataset, Shakespeare):
        return NextCharacter(dataset, device)
    assert isinstance(dataset, ImageDataset)
    return Images(dataset, device)
