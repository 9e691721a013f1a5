"""Histograms after one round on one client: model updates, and probabilities of binary weights (FedVote, Figure 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from torch import Tensor

from fedsign.algorithms.fedvote import FedVote
from fedsign.config import Config
from fedsign.report.figure import COLOURS, STYLE
from fedsign.report.one_client import one_client

BINS = 50
UPDATE, PROBABILITY = "update", "probability"
LABELS = {UPDATE: "model update", PROBABILITY: "probability of a binary weight"}


def table(configs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """A histogram of every config: of pi where the method is FedVote, else of delta.

    Args:
        configs: resolved; local training is that of round 1 on client 0, on the config's data.

    Returns:
        Columns ``method``, ``quantity`` (update, probability), ``left``, ``right`` (edges of a bin) and ``count``.
    """
    frames = []
    for config in map(Config, configs):
        quantity, values = measured(config)
        counts, edges = np.histogram(values.cpu().numpy(), bins=BINS, range=(0, 1) if quantity == PROBABILITY else None)
        columns = {"left": edges[:-1], "right": edges[1:], "count": counts}
        frames.append(pd.DataFrame({"method": config.method, "quantity": quantity, **columns}))
    return pd.concat(frames, ignore_index=True)


def measured(config: Config) -> tuple[str, Tensor]:
    """After the round's local steps: pi = (1 + tanh(a h)) / 2 of FedVote, (11), or delta = x - y of others; [d]."""
    client = one_client(config)
    training = client.training()
    client.send(training)
    assert training.updates is not None
    moved = training.updates[0]
    if not isinstance(config.algorithm, FedVote):
        return UPDATE, -moved
    a = config.algorithm.a
    h = (2 * client.server["p"] - 1).atanh() / a + moved
    return PROBABILITY, (1 + (a * h).tanh()) / 2


def draw(table: pd.DataFrame, path: Path) -> None:
    """A panel per method. Writes a PNG."""
    parts = list(table.groupby("method", sort=False))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(parts), figsize=(3.2 * len(parts), 2.6), layout="constrained", squeeze=False
        )
        for axes, (method, part) in zip(panels[0], parts, strict=True):
            axes.stairs(part["count"], [*part["left"], part["right"].iloc[-1]], fill=True, color=COLOURS[0])
            axes.set_title(str(method))
            axes.set_xlabel(LABELS[part["quantity"].iloc[0]])
            axes.set_ylabel("weights")
        figure.savefig(path)
        plt.close(figure)
