"""How long a client trains and how long it compresses, method by method (FedMRN, Figure 6).

Measured where the report is made, through the project's own executor and codecs: the numbers depend on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt

from fedsign.config import Config
from fedsign.execution.executor import CohortTraining
from fedsign.report.figure import COLOURS, STYLE
from fedsign.report.one_client import OneClient, one_client

REPEATS = 10  # the paper's; one more comes first and does not count


class Timed:
    """Local training that adds up how long its `train` and `gradient` take."""

    def __init__(self, training: CohortTraining, device: torch.device):
        self._training, self._device = training, device
        self.seconds = 0.0

    def train(self, *arguments: Any, **options: Any) -> Any:
        """See `LocalTraining.train`."""
        return self._timed(self._training.train, *arguments, **options)

    def gradient(self, *arguments: Any, **options: Any) -> Any:
        """See `LocalTraining.gradient`."""
        return self._timed(self._training.gradient, *arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._training, name)

    def _timed(self, function: Any, *arguments: Any, **options: Any) -> Any:
        start = now(self._device)
        result = function(*arguments, **options)
        self.seconds += now(self._device) - start
        return result


def table(configs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Seconds of client 0 in round 1 of every config, mean of 10 measurements.

    Args:
        configs: resolved, of one dataset and model each.

    Returns:
        Columns ``method``, ``training_s`` (the local steps) and ``compression_s`` (all else that the client does:
        decoding what it received, drawing noise or masks, compressing, encoding). The dense tail is left out.
    """
    clients = [one_client(config) for config in map(Config, configs)]
    seconds = [[once(client) for client in clients] for _ in range(1 + REPEATS)][1:]  # in turns: machines drift
    methods = [client.config.method for client in clients]
    means = pd.DataFrame(np.mean(seconds, axis=0), columns=["training_s", "compression_s"])
    return pd.concat([pd.Series(methods, name="method"), means], axis=1)


def once(client: OneClient) -> tuple[float, float]:
    """Seconds of training and of the rest of the client's side."""
    device = client.built.executor.device
    timed = Timed(client.training(), device)
    start = now(device)
    client.send(cast("CohortTraining", timed))
    return timed.seconds, now(device) - start - timed.seconds


def now(device: torch.device) -> float:
    """Seconds, when the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def draw(table: pd.DataFrame, path: Path) -> None:
    """A bar per method, compression on top of training. Writes a PNG."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.6, 2.8), layout="constrained")
        axes.bar(table["method"], table["training_s"], color=COLOURS[0], label="local training")
        axes.bar(
            table["method"], table["compression_s"], bottom=table["training_s"], color=COLOURS[1], label="compression"
        )
        axes.set_ylabel("seconds")
        axes.tick_params(axis="x", rotation=45)
        figure.legend(loc="outside upper center", ncols=2)
        figure.savefig(path)
        plt.close(figure)
