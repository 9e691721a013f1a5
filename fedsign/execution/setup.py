"""From a validated config to everything that a round needs: data, partition, model, executor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsign.config import Config
from fedsign.data import tasks
from fedsign.errors import ConfigError
from fedsign.execution.allocator import keep_freed_memory
from fedsign.execution.serial import Serial, client_parts
from fedsign.models.parameters import FlatModel, Layout, layout
from fedsign.randomness import generator


@dataclass(frozen=True)
class Setup:
    """What a config builds.

    Attributes:
        task: data and loss, on the device.
        layout: of the flat vector.
        executor: trains cohorts.
        initial: the initial model, [coded + dense + buffers].
    """

    task: tasks.Task
    layout: Layout
    executor: Serial
    initial: Tensor


def build(config: Config) -> Setup:
    """Load the data, split it, build the model. Raises FedsignError."""
    keep_freed_memory()
    device = torch.device(config.hardware.device)
    if config.hardware.precision == "tf32":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    task = tasks.load(config.dataset, device)
    parts = split(config, task)
    model = flat_model(config, task.shape, task.classes, device)
    attackers = config.attack.attackers(config.seed, config.clients)
    flipped = attackers if config.attack.flips_labels else frozenset()
    executor = Serial(
        config.seed, model, task, config.local, client_parts(parts, device), config.hardware.precision, flipped
    )
    return Setup(task, model.layout, executor, model.vector.clone())


def flat_model(config: Config, shape: tuple[int, ...], classes: int, device: torch.device) -> FlatModel:
    """The initialised model; its parameters are a function of the seed alone, whatever the device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(config.seed, "init").integers(2**63)))
        module = config.model.build(shape, classes)
    return FlatModel(module.train(), layout(module, config.algorithm.codes), device)


def split(config: Config, task: tasks.Task) -> list[np.ndarray]:
    """Training samples of every client; where the data itself names the clients, N follows. Raises ConfigError."""
    if config.dataset.fixed_clients():
        return [np.array([i]) for i in range(len(task.labels))]
    if config.partition.by_owner and task.owners is None:
        partition, dataset = config.partition.name, config.dataset.name
        raise ConfigError(f"partition={partition}: dataset={dataset} does not say who its samples come from")
    if not config.partition.by_owner:
        config.partition.check_size(len(task.labels), config.clients, config.dataset.name)
    rng = generator(config.seed, "partition")
    parts = config.partition.split(task.labels, task.owners, config.clients, rng)
    config.set_clients(len(parts))
    return parts
