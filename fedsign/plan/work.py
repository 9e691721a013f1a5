"""What a run has to do: client steps, bits and evaluated samples, counted without training."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import torch

from fedsign.config import Config, Local
from fedsign.data import tasks
from fedsign.dry_run import one_round
from fedsign.execution.setup import hold_out, split

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Work:
    """One run.

    Attributes:
        config: of the run.
        method: the name of its method in tables.
        size: samples of a client, the mean.
        client_steps: local steps that a client takes in a round, the mean over the clients.
        steps: of all clients in all rounds.
        calls: the local steps that the method asks a client for, one after the other; None: as many as the config says.
        uplink: bits of all clients in all rounds, as long as the messages are.
        models: that an evaluation measures.
        evaluated: samples that all evaluations of all models look at.
        assumed: the data are not here; all clients were taken to be of one size.
    """

    config: Config
    method: str
    size: int
    client_steps: float
    steps: float
    calls: tuple[int | None, ...]
    uplink: int
    models: int
    evaluated: int
    assumed: bool


@dataclass(frozen=True)
class _Samples:
    sizes: list[int]  # of the clients' training parts
    test: int
    train: int
    held_out: int
    assumed: bool


class Survey:
    """Counts the work of runs; what several have in common is looked at once."""

    def __init__(self) -> None:
        self._tasks: dict[str, tasks.Task] = {}
        self._samples: dict[str, _Samples] = {}
        self._rounds: dict[str, tuple[tuple[int | None, ...], int, int]] = {}

    def work(self, config: Config) -> Work:
        """The work of a run. Clients of unequal sizes are those of the first seed. Raises FedsignError."""
        samples = self._of_data(config)
        size = round(sum(samples.sizes) / len(samples.sizes))
        calls, bits, models = self._of_a_round(config, size)
        per_size = {n: steps_of(calls, config.local, n) for n in set(samples.sizes)}
        client_steps = sum(per_size[n] for n in samples.sizes) / len(samples.sizes)
        looked_at = samples.test * models + samples.held_out + (samples.train if config.eval.train else 0)
        return Work(
            config=config,
            method=config.method,
            size=size,
            client_steps=client_steps,
            steps=config.rounds * config.cohort * client_steps,
            calls=calls,
            uplink=config.rounds * config.cohort * bits,
            models=models,
            evaluated=math.ceil(config.rounds / config.eval.every) * looked_at,
            assumed=samples.assumed,
        )

    def _of_data(self, config: Config) -> _Samples:
        """How many samples there are for what."""
        key = _key(config, "dataset", "partition", "clients")
        if key not in self._samples:
            self._samples[key] = self._counted(config) if config.dataset.is_here() else _assumed(config)
        return self._samples[key]

    def _counted(self, config: Config) -> _Samples:
        key = _key(config, "dataset")
        if key not in self._tasks:
            self._tasks = {key: tasks.load(config.dataset, CPU)}  # one at a time in memory
        task = self._tasks[key]
        parts, held_out = hold_out(config, split(config, task))
        test = len(task.y_test) if isinstance(task, tasks.Classification) else 0
        return _Samples([len(part) for part in parts], test, len(task.labels), len(held_out), assumed=False)

    def _of_a_round(self, config: Config, size: int) -> tuple[tuple[int | None, ...], int, int]:
        """The local steps that a client is asked for (None: the config's), the bits of its message, and the models."""
        key = _key(config, "dataset", "model", "algorithm", "local", "clients", "cohort") + f" {size}"
        if key not in self._rounds:
            found = one_round(config, size)
            self._rounds[key] = (tuple(found.local.calls), sum(found.up.values()), found.models)
        return self._rounds[key]


def steps_of(calls: tuple[int | None, ...], local: Local, samples: int) -> int:
    """Local steps of a client with so many samples in a round."""
    return sum(local.steps_of(samples) if steps is None else steps for steps in calls)


def _assumed(config: Config) -> _Samples:
    """Equal clients, of as many samples as the config says that there are."""
    samples = config.dataset.training_samples() or config.clients * config.local.batch_size
    size = max(1, samples // config.clients)
    kept = max(1, size - math.floor(config.dataset.held_out() * size + 0.5))
    test = config.dataset.test_samples() or 0
    return _Samples([kept] * config.clients, test, samples, (size - kept) * config.clients, assumed=True)


def _key(config: Config, *names: str) -> str:
    return json.dumps({name: config.resolved[name] for name in names}, sort_keys=True, default=str)


def groups_of_cost(works: list[Work], precise: bool) -> dict[str, list[int]]:
    """Which runs (positions in the list) cost the same per client step.

    Args:
        works: the runs.
        precise: tell methods and local optimisers apart, and how many steps share a message; else only data shape,
            model, batch size and precision.
    """
    out: dict[str, list[int]] = {}
    for i, work in enumerate(works):
        out.setdefault(_cost(work, precise), []).append(i)
    return out


def _cost(work: Work, precise: bool) -> str:
    config = work.config
    parts: list[Any] = [config.dataset.dimensions(), config.resolved["model"], config.local.batch_size]
    parts += [config.hardware.precision]
    if precise:
        steps = min(math.ceil(work.client_steps), 20)
        parts += [config.local.optimizer, bool(config.local.momentum), bool(config.local.weight_decay), steps]
        parts += [{k: v for k, v in config.resolved["algorithm"].items() if not isinstance(v, (float, list))}]
    return json.dumps(parts, sort_keys=True, default=str)
