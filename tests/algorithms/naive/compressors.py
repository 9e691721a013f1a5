"""FedAvg whose clients compress their update after training."""

from __future__ import annotations

import functools

import numpy as np
from scipy import stats

from naive.problem import mean


def fedavg_of(problem, server_lr, compress):
    x, path = problem.start(), []
    for t, cohort in problem.rounds():
        x = x + server_lr * mean([compress(problem.sgd(x, i, t) - x, t, i) for i in cohort])
        path.append(x)
    return path


def fedpaq(problem, rounding, levels=1, norm="l2", server_lr=1.0):
    """QSGD: |x_j| / ‖x‖ lies between l/s and (l+1)/s and becomes one of the two, of mean |x_j| / ‖x‖."""

    def compress(x, t, i):
        length = np.sqrt(np.sum(x**2)) if norm == "l2" else np.max(np.abs(x))
        draw, out = rounding(t, i), np.zeros_like(x)
        for j, value in enumerate(x):
            place = levels * abs(value) / length
            lower = np.floor(place)
            level = lower + 1 if draw[j] < place - lower else lower
            out[j] = length * np.sign(value) * level / levels
        return out

    return fedavg_of(problem, server_lr, compress)


def terngrad(problem, rounding, server_lr=1.0):
    """s sign(u) Bernoulli(|u| / s), s = max|u|."""

    def compress(u, t, i):
        s, draw = np.max(np.abs(u)), rounding(t, i)
        return np.array([s * np.sign(value) * float(draw[j] < abs(value) / s) for j, value in enumerate(u)])

    return fedavg_of(problem, server_lr, compress)


def topk(problem, ratio, server_lr=1.0):
    def compress(x, t, i):
        k = max(1, int(ratio * len(x)))
        out = np.zeros_like(x)
        for j in sorted(range(len(x)), key=lambda j: (-abs(x[j]), j))[:k]:
            out[j] = x[j]
        return out

    return fedavg_of(problem, server_lr, compress)


def hadamard(order):
    return np.array([[(-1.0) ** bin(i & j).count("1") for j in range(order)] for i in range(order)])


@functools.cache
def lloyd_max(bits):
    """Centroids of a standard normal: every one the mean of its cell, every cell the nearest values."""
    centroids = stats.norm.ppf((np.arange(2**bits) + 0.5) / 2**bits)
    for _ in range(5000):
        edges = np.array([-np.inf, *(centroids[1:] + centroids[:-1]) / 2, np.inf])
        centroids = (stats.norm.pdf(edges[:-1]) - stats.norm.pdf(edges[1:])) / np.diff(stats.norm.cdf(edges))
    return centroids


def rotated(x, signs, quantise, scale):
    """S R^-1 Q(R x) with R = H D / sqrt(D), x padded with zeros to the length of the signs."""
    padded = np.append(x, np.zeros(len(signs) - len(x)))
    R = hadamard(len(signs)) @ np.diag(signs) / np.sqrt(len(signs))
    y = R @ padded
    q = quantise(y)
    S = np.sum(x**2) / (q @ y) if scale == "unbiased" else (q @ y) / (q @ q)
    return S * (R.T @ q)[: len(x)]


def drive(problem, rotation, scale="mse", server_lr=1.0):
    """DRIVE: the signs of the rotated vector."""

    def compress(x, t, i):
        return rotated(x, rotation(t, i), lambda y: np.where(y >= 0, 1.0, -1.0), scale)

    return fedavg_of(problem, server_lr, compress)


def eden(problem, rotation, bits=1, scale="unbiased", server_lr=1.0):
    """EDEN: the nearest centroids of the rotated vector, scaled to a standard normal."""

    def compress(x, t, i):
        length, centroids = np.sqrt(np.sum(x**2)), lloyd_max(bits)

        def quantise(y):
            z = y * np.sqrt(len(y)) / length
            return np.array([centroids[np.argmin(np.abs(centroids - value))] for value in z])

        return rotated(x, rotation(t, i), quantise, scale)

    return fedavg_of(problem, server_lr, compress)


def sign_update(problem, rounding, c, server_lr=1.0):
    """a or -a, a with probability clip(1/2 + u / (2 a), 0, 1), a = c mean|u|."""

    def compress(u, t, i):
        a, draw = c * np.mean(np.abs(u)), rounding(t, i)
        p = np.clip(0.5 + u / (2 * a), 0, 1)
        return np.array([a if draw[j] >= 1 - p[j] else -a for j in range(len(u))])

    return fedavg_of(problem, server_lr, compress)


METHODS = {f.__name__: f for f in (fedpaq, terngrad, topk, drive, eden, sign_update)}
