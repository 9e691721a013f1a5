"""What `bench.py` measures: ways to compute a round, and the memory and codecs of larger runs."""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLIENTS, COHORT, SAMPLES, EPOCHS, BATCH, LR = 100, 10, 500, 5, 50, 0.01
STEPS = COHORT * EPOCHS * SAMPLES // BATCH
WORK = (
    "FedSMU, CIFAR-10 shapes, 100 clients of 500 samples, 10 a round, 5 epochs, batches of 50: 500 SGD steps of LeNet"
)


def images(samples: int) -> tuple[Any, Any]:
    import torch

    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (samples, 32, 32, 3), generator=generator, dtype=torch.uint8)
    return x, torch.randint(10, (len(x),), generator=generator)


def lenet(pool_first: bool) -> Any:
    from torch import nn

    def stage(i: int, o: int) -> list[nn.Module]:
        after = [nn.MaxPool2d(2), nn.ReLU()] if pool_first else [nn.ReLU(), nn.MaxPool2d(2)]
        return [nn.Conv2d(i, o, 5), *after]

    head = [nn.Flatten(), nn.Linear(1600, 384), nn.ReLU(), nn.Linear(384, 192), nn.ReLU(), nn.Linear(192, 10)]
    return nn.Sequential(*stage(3, 64), *stage(64, 64), *head)


def plain(rounds: int) -> dict:
    """deepcopy, DataLoader, torch.optim and state dicts, as most public code has it; torch's own threads."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    x, y = images(COHORT * SAMPLES)
    x = x.permute(0, 3, 1, 2).float().div(255).contiguous()
    server, seconds = lenet(pool_first=False), []
    for _ in range(rounds):
        started = time.perf_counter()
        states = []
        for i in range(COHORT):
            model = copy.deepcopy(server)
            optimizer = torch.optim.SGD(model.parameters(), LR)
            part = slice(i * SAMPLES, (i + 1) * SAMPLES)
            loader = DataLoader(TensorDataset(x[part], y[part]), BATCH, shuffle=True)
            for _ in range(EPOCHS):
                for inputs, targets in loader:
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(model(inputs), targets).backward()
                    optimizer.step()
            states.append(model.state_dict())
        server.load_state_dict({k: torch.stack([s[k] for s in states]).mean(0) for k in states[0]})
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds[1:]}


def bare(rounds: int, precision: str = "f32") -> dict:
    """The arithmetic alone: a process per core of one thread each, resident models, channels last, pooling first."""
    import joblib
    import torch

    from fedsign.execution.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(1)
    x, y = images(COHORT * SAMPLES)
    x = x.float().div(255).permute(0, 3, 1, 2)
    cores = joblib.cpu_count(only_physical_cores=True)
    mixed = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()

    def steps(model: Any, number: int) -> None:
        parameters = list(model.parameters())
        for _ in range(number):
            batch = torch.randint(len(x), (BATCH,))
            with mixed:
                loss = torch.nn.functional.cross_entropy(model(x[batch]).float(), y[batch])
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                torch._foreach_add_(parameters, gradients, alpha=-LR)

    seconds = []
    for r in range(rounds):
        read, write = os.pipe()
        children = []
        for _ in range(cores):
            if (pid := os.fork()) == 0:
                model = lenet(pool_first=True).to(memory_format=torch.channels_last)
                steps(model, 20)
                started = time.perf_counter()
                steps(model, STEPS // cores if r else 10)
                os.write(write, f"{time.perf_counter() - started:.4f}\n".encode())
                os._exit(0)
            children.append(pid)
        for pid in children:
            os.waitpid(pid, 0)
        seconds.append(max(map(float, os.read(read, 10_000).split())))
    return {"seconds": seconds[1:]}


PHASES = {
    "train": [("fedsign.execution.serial", "SerialTraining", "train")],
    "encode": [("fedsign.codecs.onebit", "Sign", "encode"), ("fedsign.codecs.dense", "Float32", "encode")],
    "state": [
        ("fedsign.federation.state", "ClientStates", "read"),
        ("fedsign.federation.state", "ClientStates", "write"),
    ],
    "gather": [("fedsign.execution.ranks", "Ranks", "gather")],
    "server": [("fedsign.algorithms.fedsmu", "FedSMU", "server")],
    "log": [("fedsign.tracking.tracker", "Tracker", "metrics"), ("fedsign.tracking.tracker", "Tracker", "cohort")],
    "evaluate": [("fedsign.execution.executor", "Executor", "evaluate")],
}


def timed(phases: dict[str, float]) -> None:
    """Have the methods of `PHASES` add their seconds in this process; what one calls in another counts in both."""
    import importlib

    def wrap(owner: Any, method: str, phase: str) -> None:
        inner = getattr(owner, method)

        def outer(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                phases[phase] += time.perf_counter() - started

        setattr(owner, method, outer)

    for phase, methods in PHASES.items():
        phases[phase] = 0.0
        for module, owner, method in methods:
            wrap(getattr(importlib.import_module(module), owner), method, phase)


def fedsign(rounds: int, *overrides: str, test: int = 10_000) -> dict:
    """Rounds of ``algorithm=fedsmu``: sampling, batching, training, encoding, decoding, server step, logging.

    Evaluation is timed apart: the CSV's seconds leave it out.
    """
    import numpy as np

    x, y = images(CLIENTS * SAMPLES + test)
    phases: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        arrays = {"x_train": x[:-test], "y_train": y[:-test], "x_test": x[-test:], "y_test": y[-test:]}
        np.savez(f"{folder}/cifar10.npz", **{k: v.numpy() for k, v in arrays.items()})
        del x, y, arrays
        timed(phases)
        given = [
            "dataset=cifar10", "dataset.augment=false", f"dataset.root={folder}", "partition=iid", "model=lenet",
            "algorithm=fedsmu", f"clients={CLIENTS}", f"cohort={COHORT}", f"local.epochs={EPOCHS}",
            f"local.batch_size={BATCH}", f"local.lr={LR}", f"rounds={rounds}", f"output={folder}/run", *overrides,
        ]  # fmt: skip
        seconds = simulated(given, Path(folder) / "run")
    return {"seconds": seconds[1:], "phases": {phase: s / rounds for phase, s in phases.items()}}


def simulated(overrides: list[str], out: Path) -> list[float]:
    """Run a config in this process; the seconds of each round."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from fedsign import cli, job, presets

    cli.register_resolvers()
    with initialize_config_dir(str(presets.conf_folder()), version_base="1.3"):
        config = OmegaConf.to_container(compose("config", overrides), resolve=True)
    job.run(config)
    rows = (out / "metrics.csv").read_text().splitlines()
    cumulative = [0.0] + [float(row.split(",")[rows[0].split(",").index("seconds")]) for row in rows[1:]]
    return [b - a for a, b in itertools.pairwise(cumulative)]


def emnist(rounds: int) -> dict:
    """3 579 clients with state, 100 a round: a run whose memory must not grow with its clients."""
    import numpy as np

    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(3579), 16)
    with tempfile.TemporaryDirectory() as folder:
        x = rng.integers(256, size=(len(owners) + 100, 28, 28), dtype=np.uint8)
        y = rng.integers(10, size=len(x))
        given = {"x_train": x[:-100], "y_train": y[:-100], "x_test": x[-100:], "y_test": y[-100:]}
        np.savez(f"{folder}/emnist.npz", **given, owner_train=owners)
        del x, given
        simulated(
            ["dataset=emnist", f"dataset.root={folder}", "partition=natural", "model=emnist_cnn", "algorithm=fedsmu",
             "cohort=100", "local.epochs=null", "local.steps=1", f"rounds={rounds}", f"output={folder}/run"],
            Path(folder) / "run",
        )  # fmt: skip
        state = next(Path(folder).glob("run/checkpoint/state_*"), None)
        assert state is None, "a finished run keeps its clients' state"
    return {"clients": 3579, "rounds": rounds}


def codecs(rounds: int) -> dict:
    """Milliseconds of FedSMU's messages: a client's encoding, decoding, and the vote over 100 packed clients."""
    import torch

    from fedsign.codecs import Sign
    from fedsign.local.streams import Streams

    torch.set_num_threads(1)
    streams, sign, out = Streams(0, 1, [0], torch.device("cpu")), Sign("random"), {}
    for name, d in (("lenet", 797_962), ("resnet18", 11_173_962)):
        x = torch.randn(1, d, generator=torch.Generator().manual_seed(0))
        (row,) = sign.encode(x, streams)
        rows = [row.roll(i) for i in range(100)]
        for last in rows:
            last[-1] = 0
        big = torch.cat(rows)
        out[f"{name} encode ms"] = milliseconds(lambda x=x: sign.encode(x, streams))
        out[f"{name} decode ms"] = milliseconds(lambda row=row, d=d: sign.decode([row], d))
        out[f"{name} vote of 100 ms"] = milliseconds(lambda rows=rows, d=d: sign.mean(rows, d))
        out[f"{name} copy of 100 ms"] = milliseconds(big.clone)
    return out


def milliseconds(call: Callable[[], Any]) -> float:
    call()
    took = []
    for _ in range(5):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return round(1000 * min(took), 2)


WAYS: dict[str, Callable[[int], dict]] = {
    "plain": plain,
    "bare": bare,
    "serial": lambda rounds: fedsign(rounds, "hardware.workers=1"),
    "workers": lambda rounds: fedsign(rounds, "hardware.workers=auto"),
    "bare bf16": lambda rounds: bare(rounds, "bf16"),
    "workers bf16": lambda rounds: fedsign(rounds, "hardware.workers=auto", "hardware.precision=bf16"),
    "vectorised": lambda rounds: fedsign(rounds, "hardware.workers=1", "hardware.vectorise=true"),
}
ONCE = ("vectorised",)  # of no use on a CPU, and long
EXTRAS: dict[str, Callable[[int], dict]] = {"emnist": emnist, "codecs": codecs}
