"""Who holds what: the client-by-class picture of a partition, and its sizes in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from fedsign.report.figure import COLOURS, STYLE

FILE = "partition.png"
MOST_NAMED = 60  # clients that are told apart on the axis
MOST_COLUMNS = 700  # of the map; more clients share columns
COLOUR_MAP = LinearSegmentedColormap.from_list("samples", ["#ffffff", "#9ecbe6", COLOURS[0], "#00263d"])


def class_counts(labels: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """How many samples of each class each client holds, [clients, classes], of the classes that occur in the labels.

    Args:
        labels: integers [samples].
        parts: for each client the indices of its samples.
    """
    names, y = np.unique(labels, return_inverse=True)
    client = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    cell = client * len(names) + y[np.concatenate(parts)]
    return np.bincount(cell, minlength=len(parts) * len(names)).reshape(len(parts), len(names))


def sizes_text(samples: int, parts: Sequence[np.ndarray]) -> str:
    """Number of clients, their sizes, and how many of the training samples are used, in two lines.

    Args:
        samples: number of training samples.
        parts: for each client the indices of its samples.
    """
    sizes = np.array([len(part) for part in parts])
    distinct = len(np.unique(np.concatenate(parts)))
    held = int(sizes.sum())
    shared = f"; {held:,} held, as clients share samples" if held > distinct else ""
    return (
        f"clients  {len(sizes):,}, with {sizes.min():,} to {sizes.max():,} samples, median {np.median(sizes):,g}\n"
        f"samples  {distinct:,} of {samples:,} used{shared}"
    )


def draw(labels: np.ndarray, parts: Sequence[np.ndarray], path: Path) -> None:
    """Draw a map of the samples by client and class, and above it the clients' sizes.

    More than 60 clients are sorted by their largest class; more than 700 share columns, which show their mean.

    Args:
        labels: integers [samples].
        parts: for each client the indices of its samples.
        path: of the PNG.
    """
    counts = class_counts(labels, parts)
    clients, classes = counts.shape
    if clients > MOST_NAMED:
        counts = counts[by_largest_class(counts)]
    height = 0.17 * min(max(classes, 8), 16)  # inches
    with plt.rc_context(STYLE):
        figure, (above, below) = plt.subplots(
            2, 1, figsize=(4.6, height + 1.2), sharex=True, height_ratios=(0.45, height), layout="constrained"
        )
        _draw_sizes(above, counts.sum(axis=1))
        _draw_map(figure, below, counts)
        _name_clients(below, clients)
        _name_classes(below, np.unique(labels))
        figure.savefig(path)
        plt.close(figure)


def by_largest_class(counts: np.ndarray) -> np.ndarray:
    """Order of the clients [clients]: by largest class, then its share in whole percents, the largest first, then mean.

    Args:
        counts: samples [clients, classes].
    """
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ np.arange(counts.shape[1])
    return np.lexsort((mean, -np.round(share.max(axis=1), 2), counts.argmax(axis=1)))


def _draw_sizes(axes: Axes, sizes: np.ndarray) -> None:
    axes.stairs(sizes, np.arange(len(sizes) + 1) - 0.5, fill=True, color="#aaaaaa", linewidth=0)
    axes.set_xlim(-0.5, len(sizes) - 0.5)
    axes.set_ylim(0, sizes.max())
    axes.set_yticks([0, sizes.max()])
    axes.set_ylabel("samples")
    axes.tick_params(bottom=False, labelbottom=False)


def _draw_map(figure: Figure, axes: Axes, counts: np.ndarray) -> None:
    clients, classes = counts.shape
    together = -(-clients // MOST_COLUMNS)  # clients in a column
    starts = np.arange(0, clients, together)
    edges = np.append(starts, clients)
    columns = np.add.reduceat(counts, starts, axis=0) / np.diff(edges)[:, None]
    image = axes.pcolormesh(
        edges - 0.5, np.arange(classes + 1) - 0.5, columns.T, cmap=COLOUR_MAP, norm=PowerNorm(0.5, vmin=0),
        rasterized=True,
    )  # fmt: skip
    if clients <= MOST_NAMED and classes <= MOST_NAMED:
        image.set(edgecolor="white", linewidth=0.5)
    axes.set_ylim(classes - 0.5, -0.5)
    label = "samples of the class" if together == 1 else f"samples of the class, mean of {together} clients"
    bar = figure.colorbar(image, ax=axes, label=label, pad=0.015, fraction=0.05)
    bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    bar.outline.set_linewidth(0.5)


def _name_clients(axes: Axes, clients: int) -> None:
    if clients <= MOST_NAMED:
        axes.set_xlabel("client")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    else:
        axes.set_xlabel(f"{clients:,} clients, sorted by their largest class")
        axes.tick_params(bottom=False, labelbottom=False)


def _name_classes(axes: Axes, names: np.ndarray) -> None:
    step = 1 if len(names) <= 16 else 10 * -(-len(names) // 100)
    at = np.arange(0, len(names), step)
    axes.set_ylabel("class")
    axes.yaxis.set_major_locator(FixedLocator(list(at)))
    axes.set_yticklabels([str(name) for name in names[at]])
