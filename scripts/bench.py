"""Speed of one FedSMU round beside a plain loop and beside the bare arithmetic, in one run: ``make bench``.

Work: CIFAR-10 shapes, 10 clients of 500 samples, 5 epochs, batches of 50: 500 SGD steps of LeNet 64-64-384-192.
Each way runs in a process of its own, and the repetitions take turns, so that a slow minute hits all of them. The
images are random: the time does not depend on them.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLIENTS, SAMPLES, EPOCHS, BATCH, LR = 10, 500, 5, 50, 0.01
ROOT = Path(__file__).parents[1]


def images():
    import torch

    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (CLIENTS * SAMPLES, 32, 32, 3), generator=generator, dtype=torch.uint8)
    return x, torch.randint(10, (len(x),), generator=generator)


def lenet(pool_first: bool):
    from torch import nn

    def stage(i, o):
        after = [nn.MaxPool2d(2), nn.ReLU()] if pool_first else [nn.ReLU(), nn.MaxPool2d(2)]
        return [nn.Conv2d(i, o, 5), *after]

    head = [nn.Flatten(), nn.Linear(1600, 384), nn.ReLU(), nn.Linear(384, 192), nn.ReLU(), nn.Linear(192, 10)]
    return nn.Sequential(*stage(3, 64), *stage(64, 64), *head)


def plain(rounds: int) -> list[float]:
    """deepcopy, DataLoader, torch.optim and state dicts, as most public code has it."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    x, y = images()
    x = x.permute(0, 3, 1, 2).float().div(255).contiguous()
    server, seconds = lenet(pool_first=False), []
    for _ in range(rounds):
        started = time.perf_counter()
        states = []
        for i in range(CLIENTS):
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
    return seconds


def bare(rounds: int) -> list[float]:
    """The arithmetic alone: a resident model, channels last, pooling first, freed memory kept."""
    import torch

    from fedsign.execution.allocator import keep_freed_memory

    keep_freed_memory()
    x, y = images()
    x = x.float().div(255).permute(0, 3, 1, 2)
    model, seconds = lenet(pool_first=True), []
    parameters = list(model.parameters())
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(CLIENTS * EPOCHS * SAMPLES // BATCH):
            batch = torch.randint(len(x), (BATCH,))
            loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                torch._foreach_add_(parameters, gradients, alpha=-LR)
        seconds.append(time.perf_counter() - started)
    return seconds


def fedsign(rounds: int) -> list[float]:
    """Rounds of ``algorithm=fedsmu``: sampling, batching, training, encoding, decoding, server step, logging."""
    import numpy as np
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from fedsign import cli, job

    cli.register_resolvers()
    x, y = images()
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/cifar10.npz", x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])
        overrides = [
            "dataset=cifar10", "dataset.augment=false", f"dataset.root={folder}", "partition=iid", "model=lenet",
            "algorithm=fedsmu", f"clients={CLIENTS}", f"cohort={CLIENTS}", f"local.epochs={EPOCHS}",
            f"local.batch_size={BATCH}", f"local.lr={LR}", f"rounds={rounds}", f"output={folder}/run",
        ]  # fmt: skip
        with initialize_config_dir(str(cli.conf_folder()), version_base="1.3"):
            config = OmegaConf.to_container(compose("config", overrides), resolve=True)
        job.run(config)
        rows = (Path(folder) / "run" / "metrics.csv").read_text().splitlines()
    cumulative = [0.0] + [float(row.split(",")[rows[0].split(",").index("seconds")]) for row in rows[1:]]
    return [b - a for a, b in itertools.pairwise(cumulative)]


WAYS = {"plain": plain, "bare": bare, "fedsign": fedsign}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3, help="processes per way (default 3)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds per process; the first warms up (default 2)")
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(WAYS[arguments.only](arguments.rounds)))
        return
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for repetition in range(arguments.repetitions):
        for way in WAYS:
            command = [sys.executable, __file__, "--only", way, "--rounds", str(arguments.rounds)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds[way] += json.loads(done.stdout.splitlines()[-1])[1:]
            print(f"{repetition + 1}/{arguments.repetitions}  {way:<8} {seconds[way][-1]:6.2f} s", file=sys.stderr)
    report(seconds)


def report(seconds: dict[str, list[float]]) -> None:
    import torch

    from fedsign.tracking.environment import describe

    medians = {way: statistics.median(values) for way, values in seconds.items()}
    print(f"one round, seconds (median of n={len(seconds['plain'])}), {platform.platform()}, {os.cpu_count()} cores")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32")
    for way, median in medians.items():
        faster, slower = medians["plain"] / median, median / medians["bare"]
        print(f"  {way:<8} {median:6.2f} s   {faster:5.2f} times as fast as plain   {slower:5.2f} of the time of bare")
    path = ROOT / "results" / "bench" / f"{datetime.date.today()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {"workload": __doc__.split("Work: ")[1].split("\nEach")[0], "seconds": seconds, "medians": medians}
    path.write_text(json.dumps(result | describe("cpu"), indent=2) + "\n")
    print(f"written  {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
