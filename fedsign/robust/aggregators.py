"""Robust aggregation of n vectors, float32 [n, d] to [d].

Beside the vectors themselves only blocks of coordinates and [n, n] matrices are held. Every rule is a function of the
vectors alone, with ties going to the first of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

BLOCK = 2**16  # coordinates at a time
FLOOR = 1e-6  # ν: a distance below it counts as this in Weiszfeld's weights
ITERATIONS = 100  # of Weiszfeld


def median(v: Tensor) -> Tensor:
    """Median of every coordinate (Yin et al., ICML 2018); of an even number, the mean of the two in the middle."""
    return trimmed_mean(v, (len(v) - 1) // 2)


def trimmed_mean(v: Tensor, b: int) -> Tensor:
    """Mean of every coordinate without its b largest and b smallest values, 2 b < n (Yin et al., ICML 2018)."""
    return torch.cat([_sorted(block)[b : len(v) - b].mean(dim=0) for block in _blocks(v)])


def krum(v: Tensor, f: int) -> Tensor:
    """The vector v_i of least Σ ‖v_i − v_j‖² over its n − f − 2 nearest others j (Blanchard et al., NeurIPS 2017)."""
    return multi_krum(v, f, 1)


def multi_krum(v: Tensor, f: int, m: int) -> Tensor:
    """Mean of the m vectors of least score in Krum's sense."""
    nearest = squared_distances(v).sort(dim=1).values[:, 1 : len(v) - f - 1]  # the first is its own, 0
    best = nearest.sum(dim=1).argsort(stable=True)[:m].to(v.device)
    return torch.cat([block[best].mean(dim=0) for block in _blocks(v)])


def geometric_median(v: Tensor) -> Tensor:
    """The point of least Σ ‖v_i − y‖, by Weiszfeld's iteration from the mean.

    y stays a weighted mean Σ α_i v_i, and ‖v_i − y‖² = Σ_j α_j D_ij − ½ Σ_jk α_j α_k D_jk with D the squared distances:
    the iteration runs on the [n, n] matrix.
    """
    D = squared_distances(v)
    alpha = torch.full((len(v),), 1 / len(v), dtype=torch.float64)
    for _ in range(ITERATIONS):
        to_y = D @ alpha
        distance = (to_y - 0.5 * alpha @ to_y).clamp(min=0).sqrt()
        alpha = 1 / distance.clamp(min=FLOOR)
        alpha /= alpha.sum()
    weights = alpha.to(v.device)
    return torch.cat([(weights @ block.double()).float() for block in _blocks(v)])


def squared_distances(v: Tensor) -> Tensor:
    """‖v_i − v_j‖² [n, n], float64 on the host; from differences, so that near vectors far from 0 lose no digits."""
    n = len(v)
    pairs = torch.zeros(n * (n - 1) // 2, dtype=torch.float64, device=v.device)
    for block in _blocks(v):
        pairs += torch.pdist(block.double()).square()
    D = torch.zeros(n, n, dtype=torch.float64)
    i, j = torch.triu_indices(n, n, 1)
    D[i, j] = D[j, i] = pairs.cpu()
    return D


def _sorted(block: Tensor) -> Tensor:
    """Every coordinate's values in increasing order; numpy's sort is several times as fast on a CPU."""
    if block.device.type == "cpu":
        return torch.from_numpy(np.sort(block.numpy(), axis=0))
    return block.sort(dim=0).values


def _blocks(v: Tensor) -> Iterator[Tensor]:
    return iter(v.split(BLOCK, dim=1))
