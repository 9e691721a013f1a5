"""The consensus problem, and the operators that the naive loops share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Draw = Callable[[int, int], Vector]  # (round, client) -> [d]; the server draws as client SERVER

SERVER = -1


@dataclass
class Problem:
    """f_i(x) = 0.5 ||x - y_i||^2, x_0 = 0; `cohorts[t - 1]` takes part in round t."""

    targets: Vector
    cohorts: list[list[int]]
    lr: float
    steps: int = 1
    lr_decay: float = 1.0

    def start(self):
        return np.zeros(self.targets.shape[1])

    def rounds(self):
        return enumerate(self.cohorts, start=1)

    def rate(self, t):
        return self.lr * self.lr_decay ** (t - 1)

    def gradient(self, x, i):
        return x - self.targets[i]

    def sgd(self, x, i, t):
        y = x.copy()
        for _ in range(self.steps):
            y = y - self.rate(t) * self.gradient(y, i)
        return y

    def objective(self, x):
        return sum(0.5 * np.sum((x - y) ** 2) for y in self.targets) / len(self.targets)

    def distance(self, x):
        return np.sqrt(np.sum((x - sum(self.targets) / len(self.targets)) ** 2))


def sign(v, zero, coin):
    """Sign(v); where v is exactly 0: +1 (`plus`), 0 (`zero`) or the coin's ±1 (`random`)."""
    s = np.empty_like(v)
    for j, value in enumerate(v):
        if value > 0:
            s[j] = 1.0
        elif value < 0:
            s[j] = -1.0
        elif zero == "random":
            s[j] = coin()[j]
        else:
            s[j] = {"plus": 1.0, "zero": 0.0}[zero]
    return s


def mean(rows):
    return sum(rows) / len(rows)
