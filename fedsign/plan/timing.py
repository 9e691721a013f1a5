"""How long a client step takes: measured here on random samples, and estimated for a GPU."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from fedsign.config import Config
from fedsign.execution import setup
from fedsign.execution.launch import launch
from fedsign.execution.ranks import Ranks
from fedsign.plan.work import Work, steps_of
from fedsign.presets import conf_folder
from fedsign.simulator import Simulator

MOST_STEPS = 20  # local steps between two messages, in a measurement
MOST_CLIENTS = 64
CORE = 2e10  # operations a second that a core is taken to do, to choose how much to measure
GPU_RATE = 15e12  # floating-point operations a second
GPU_LAUNCH = 8e-6  # seconds per operation that is started, however small
EVALUATED = 100  # samples of a batch, in a measurement


@dataclass(frozen=True)
class Speed:
    """Seconds per client step and per evaluated sample."""

    step: float
    sample: float

    def of(self, work: Work) -> float:
        """Seconds that a run takes."""
        return work.steps * self.step + work.evaluated * self.sample


@dataclass(frozen=True)
class Arithmetic:
    """A client step in numbers: floating-point operations, and operations that a device is asked for."""

    flops: float
    calls: int


def arithmetic(config: Config) -> Arithmetic:
    """Count the forward and backward pass of a batch on the real model, without computing it."""
    shape, classes = config.dataset.dimensions()
    module = config.model.build(shape, classes).to("meta")
    kind = torch.int64 if config.dataset.kind == "text" else torch.float32
    batch = torch.zeros(config.local.batch_size, *shape, dtype=kind, device="meta")
    calls = _Calls()
    with FlopCounterMode(display=False) as flops, calls:
        module(batch).sum().backward()
    return Arithmetic(flops.get_total_flops(), calls.n)


class _Calls(TorchDispatchMode):
    """Counts the operations that are not mere views."""

    n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += not func.is_view
        return func(*args, **(kwargs or {}))


def on_a_gpu(config: Config, counted: Arithmetic) -> Speed:
    """An estimate: operations at a sustained rate, and a floor per operation started. Evaluation is a forward pass."""
    step = counted.flops / GPU_RATE + counted.calls * GPU_LAUNCH
    forward = counted.flops / 3 / config.local.batch_size / GPU_RATE
    return Speed(step, forward + counted.calls / 3 * GPU_LAUNCH / config.eval.batch_size)


def measure(work: Work, counted: Arithmetic, seconds: float) -> Speed:
    """Train and evaluate as this run would on this machine, on random samples, for about so many seconds.

    All the workers that the run would have share the clients; coding, state and the server's step are included.
    """
    with tempfile.TemporaryDirectory(prefix="fedsign-plan-") as folder:
        longest = max(1, int(seconds / 2 / (counted.flops / CORE + 1e-6)))
        config = _reduced(work, min(MOST_STEPS, longest), Path(folder))
        workers = setup.prepare(config)
        simulator = Simulator(config, setup.build(config))
        return launch(workers, lambda ranks: _timed(simulator, ranks, work, seconds))


def _reduced(work: Work, most_steps: int, folder: Path) -> Config:
    """The config with few clients, few local steps and few random samples."""
    given = work.config
    clients = given.dataset.fixed_clients() or min(given.cohort, MOST_CLIENTS)
    size = min(work.size, given.local.batch_size)
    node = {**given.resolved}
    if given.dataset.fixed_clients() is None:
        samples = max(clients * size, 10 * 4 * EVALUATED)
        node["dataset"] = {**node["dataset"], "synthetic": samples, "validation": 0.0}
    node |= {group: _choice(group, name) for group, name in (("partition", "iid"), ("attack", "none"))}
    if None in work.calls:
        steps = max(1, min(most_steps, round(work.client_steps)))
        node["local"] = {**node["local"], "epochs": None, "steps": steps}
    node["eval"] = {**node["eval"], "batch_size": EVALUATED, "train": False}
    node |= {"clients": clients, "cohort": clients, "output": str(folder)}
    return Config(node)


def _choice(group: str, name: str) -> Any:
    return yaml.safe_load((conf_folder() / group / f"{name}.yaml").read_text())


def _timed(simulator: Simulator, ranks: Ranks, work: Work, seconds: float) -> Speed:
    """What a client step and an evaluated sample take, as the rank that trains its share."""
    simulator.ranks = ranks
    clients = list(range(simulator.config.cohort))
    few = clients[: ranks.size]
    deadline = time.monotonic() + seconds

    def train(chosen: list[int]) -> float:
        return _seconds(ranks, lambda: simulator._round(1, chosen))

    took = train(few)  # also warms up
    done = len(few)
    if _agreed(ranks, 1e3 * took) < 1e3 * seconds / 3:
        took = train(few)
        fit = _agreed(ranks, seconds / 2 / took)
        chosen = clients[: max(1, fit) * len(few)]
        took, done = train(chosen), len(chosen)
        while _agreed(ranks, 1e3 * max(0, deadline - time.monotonic() - took / done * len(chosen))):
            took, done = took + train(chosen), done + len(chosen)
    config = simulator.config
    steps = steps_of(work.calls, config.local, work.size)
    samples = config.dataset.test_samples() or 1
    evaluation = _seconds(ranks, lambda: simulator._row({}))
    return Speed(took / done / steps, evaluation / samples / work.models)


def _agreed(ranks: Ranks, value: float) -> int:
    """The first rank's number, rounded down, on all ranks."""
    return ranks.agree(math.floor(value) if ranks.first else 0)


def _seconds(ranks: Ranks, act: Callable[[], object]) -> float:
    ranks.agree(0)
    started = time.monotonic()
    act()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic() - started
