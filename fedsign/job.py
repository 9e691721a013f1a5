"""One run, from a validated config to a finished run directory."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig

from fedsign.config import Config
from fedsign.errors import ConfigError, FedsignError
from fedsign.interrupt import Interrupted, Interrupts
from fedsign.tracking.run_directory import RunDirectory, read_summary, remove_if_empty

if TYPE_CHECKING:
    from fedsign.execution.ranks import Ranks
    from fedsign.models.parameters import Layout
    from fedsign.simulator import Simulator

TORCHRUN = (
    "TORCHELASTIC_RUN_ID" in os.environ
)  # started by it, as one of the processes of a run, each with the same command
HELPED = "helped"  # the status of a process that trained for the one which writes the run


def run(resolved: dict[str, Any]) -> dict[str, Any]:
    """Run a resolved config, or go on with it, or find it finished, or only show its partition.

    Torch is imported only after the config has passed.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        FedsignError: one line for the user.
        Interrupted: by a signal; a checkpoint of the rounds done is written.
    """
    config = Config(resolved)
    if config.partition.show:
        return _show_partition(config)
    directory = RunDirectory(config)
    if twin := directory.twin():
        print(f"{twin}: the same run, finished already; resume=never starts over")
        remove_if_empty(directory.path)
        return read_summary(twin) | {"output": str(twin)}
    first = not TORCHRUN or os.environ["RANK"] == "0"
    with _disk_errors(directory), directory.locked() if first else contextlib.nullcontext():
        if directory.status == "finished":
            print(f"{directory.path}: finished already; resume=never starts over")
            return directory.summary()
        if first:
            directory.write_config()
        if config.dry_run:
            return _dry_run(config, directory)
        return _simulate(config, directory)


@contextlib.contextmanager
def _disk_errors(directory: RunDirectory) -> Iterator[None]:
    """Tell in one line why something could not be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise FedsignError(f"output={directory.path}: {reason}; what was written so far is intact") from error


def _show_partition(config: Config) -> dict[str, Any]:
    """Draw ``partition.png`` and print the sizes; nothing else is written, so that a run may have the folder."""
    import torch

    from fedsign.data import tasks
    from fedsign.execution.setup import split
    from fedsign.report import partition_picture

    if config.dataset.fixed_clients():
        raise ConfigError(f"partition.show=true: dataset={config.dataset.name} is not split; its clients are given")
    task = tasks.load(config.dataset, torch.device("cpu"))
    parts = split(config, task)
    config.output.mkdir(parents=True, exist_ok=True)
    path = config.output / partition_picture.FILE
    partition_picture.draw(task.labels, parts, path)
    print(f"{partition_picture.sizes_text(len(task.labels), parts)}\npicture  {path}")
    return {"status": "dry run", "client_sizes": [len(part) for part in parts]}


def _dry_run(config: Config, directory: RunDirectory) -> dict[str, Any]:
    from fedsign import dry_run

    summary = dry_run.dry_run(config)
    directory.write_summary(summary)
    print(dry_run.text(summary))
    return summary


def _simulate(config: Config, directory: RunDirectory) -> dict[str, Any]:
    from fedsign.execution import ranks, setup
    from fedsign.execution.launch import launch
    from fedsign.simulator import Simulator

    started = time.monotonic()
    workers = setup.prepare(config)
    with Interrupts() as interrupts, ranks.from_environment(setup.device_of(config)) as group:
        built = setup.build(config)
        for turn in range(group.size):  # the first clears old checkpoints before the others look for them
            if turn == group.rank:
                simulator = Simulator(config, built)
            group.agree(0)
        if group.first and directory.status == "unfinished" and config.resume == "auto":
            print(f"{directory.path}: going on after round {simulator.t}", file=sys.stderr)

        def body(ranks: Ranks) -> dict[str, Any]:
            if not ranks.first:
                with _disk_errors(directory), interrupts.held():
                    simulator.run(ranks, None, None, interrupts)
                return {"status": HELPED}
            return _first_rank(config, directory, simulator, ranks, interrupts, started)

        return body(group) if group.size > 1 else launch(workers, body)


def _first_rank(
    config: Config,
    directory: RunDirectory,
    simulator: Simulator,
    ranks: Ranks,
    interrupts: Interrupts,
    started: float,
) -> dict[str, Any]:
    """The run as the rank that writes and prints sees it; the summary."""
    from fedsign.tracking.environment import describe
    from fedsign.tracking.progress import RoundProgress
    from fedsign.tracking.tracker import Tracker

    tracker = Tracker(config, simulator.t)
    summary: dict[str, Any] = {"status": "failed"}
    try:
        bar = RoundProgress(config.algorithm.title, config.rounds, simulator.t)
        with bar as progress, interrupts.held():
            status = simulator.run(ranks, tracker, progress, interrupts)
        tensors = simulator.executor.model.named(simulator.model())
        directory.write_model({name: tensor.cpu().numpy() for name, tensor in tensors.items()})
        summary = {"status": status} | _identity(config, simulator.layout) | tracker.summary()
        summary |= {"wall_seconds": round(simulator.counters["seconds"], 3)}
        summary |= {"session_seconds": round(time.monotonic() - started, 3)}
        summary |= describe(simulator.executor.device, ranks.size)
        tracker.close(summary, failed=False)  # what is lost after the summary is there stays lost
        directory.write_summary(summary)
        simulator.states.discard()
    except Interrupted as interrupted:
        again = shlex.join(["fedsign", "--config-dir", str(directory.path), "--config-name", "config"])
        print(f"{interrupted}: stopped after round {simulator.t}; go on with: {again}", file=sys.stderr)
        raise
    finally:
        tracker.close(summary, failed=summary["status"] == "failed")
    return summary


def _identity(config: Config, layout: Layout) -> dict[str, Any]:
    return {
        "experiment": config.experiment,
        "overrides": list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else [],
        "algorithm": config.algorithm.name,
        "method": config.algorithm.title,
        "seed": config.seed,
        "fingerprint": config.fingerprint,
        "clients": config.clients,
        "cohort": config.cohort,
        "parameters": layout.parameters,
        "coded": layout.coded,
        "dense": layout.dense,
        "buffers": layout.buffers,
    }
