"""From a validated config to everything that a round needs: data, partition, model, executor."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import joblib
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from torch import Tensor

from fedsign.config import Config
from fedsign.data import tasks
from fedsign.errors import ConfigError
from fedsign.execution.allocator import keep_freed_memory
from fedsign.execution.executor import GPU_CHUNK_VALUES, Executor, client_parts, not_vectorisable
from fedsign.execution.serial import Serial
from fedsign.execution.vectorised import Vectorised
from fedsign.models.parameters import FlatModel, Layout, layout
from fedsign.options import count
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
    executor: Executor
    initial: Tensor


def prepare(config: Config) -> int:
    """Set this process up for a config, before anything is computed; the number of ranks that share its cohorts.

    On a CPU every rank has one thread: no number then depends on how many cores there are.
    """
    keep_freed_memory()
    if config.hardware.precision == "tf32":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    if config.hardware.device != "cpu":
        return 1
    available = _cores()
    torch.set_num_threads(1)
    return min(available, config.cohort) if config.hardware.workers == "auto" else config.hardware.workers


@functools.cache
def _cores() -> int:
    """Cores that this process may use: those of its affinity and container, and no more than OMP_NUM_THREADS."""
    return min(torch.get_num_threads(), joblib.cpu_count(only_physical_cores=True))


def device_of(config: Config) -> torch.device:
    """The device of this process: of several GPUs, that of its local rank or of its job's number in a sweep."""
    if config.hardware.device != "cuda":
        return torch.device(config.hardware.device)
    in_sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    number = int(os.environ.get("LOCAL_RANK", HydraConfig.get().job.num if in_sweep else 0))
    return torch.device("cuda", number % torch.cuda.device_count())


def build(config: Config) -> Setup:
    """Load the data onto this process's device, split it, build the model. Raises FedsignError."""
    device = device_of(config)
    model = flat_model(config, *config.dataset.dimensions(), device)
    way = Vectorised if _vectorises(config, model) else Serial
    task = tasks.load(config.dataset, device)
    parts, held_out = hold_out(config, split(config, task))
    attackers = config.attack.attackers(config.seed, config.clients) if config.attack.flips_labels else frozenset()
    sources = (config.seed, model, task, config.local, client_parts(parts, device), config.hardware.precision)
    validation = torch.from_numpy(held_out).to(device)
    executor = way(*sources, flipped=attackers, validation=validation)
    return Setup(task, model.layout, executor, model.vector.clone())


def _vectorises(config: Config, model: FlatModel) -> bool:
    """Whether clients are trained side by side: with ``auto``, small models on a GPU. Raises ConfigError."""
    asked = config.hardware.vectorise
    if asked is False:
        return False
    if reason := not_vectorisable(model.module):
        if asked is True:
            raise ConfigError(
                f"hardware.vectorise=true: not with model={config.model.name}, {reason}; use auto or false"
            )
        return False
    fits = min(config.cohort, config.clients) * model.layout.parameters <= GPU_CHUNK_VALUES
    return asked is True or (model.vector.device.type == "cuda" and fits)


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


def hold_out(config: Config, parts: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Take the fraction ``dataset.validation`` of every client's samples out of its training, all but one at most.

    Args:
        config: which fraction, and the seed.
        parts: samples of every client.

    Returns:
        What every client trains on, in the order of its samples, and all that is held out, int64.

    Raises:
        ConfigError: no client has enough samples for the fraction to be one.
    """
    fraction = config.dataset.held_out()
    nothing = np.empty(0, dtype=np.int64)
    if not fraction:
        return parts, nothing
    training, held_out = [], [nothing]
    for client, part in enumerate(parts):
        k = min(count(fraction, len(part)), max(0, len(part) - 1))
        chosen = generator(config.seed, "validation", client=client).permutation(len(part))[:k]
        training.append(np.delete(part, chosen))
        held_out.append(part[np.sort(chosen)])
    if not any(map(len, held_out)):
        most = max(map(len, parts))
        raise ConfigError(f"dataset.validation={fraction:g}: holds out no sample; the largest client has {most}")
    return training, np.concatenate(held_out)
