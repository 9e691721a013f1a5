"""The papers' pseudo-code as plain loops on the consensus problem, in float64 and with nothing of fedsign in it."""

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


def quantise(v, bits):
    """v / max|v| rounded to the nearest of the 2^bits - 1 levels -1, ..., 0, ..., 1; 32 bits leave v as it is."""
    if bits == 32:
        return v.copy()
    largest = np.max(np.abs(v))
    if largest == 0:
        return np.zeros_like(v)
    levels = np.linspace(-1, 1, 2**bits - 1)
    return np.array([levels[np.argmin(np.abs(levels - value / largest))] for value in v])


def mean(rows):
    return sum(rows) / len(rows)


def fedavg(problem, server_lr=1.0):
    x, path = problem.start(), []
    for t, cohort in problem.rounds():
        x = x + server_lr * mean([problem.sgd(x, i, t) - x for i in cohort])
        path.append(x)
    return path


def fedsmu(
    problem,
    beta_1,
    beta_2,
    gamma_1,
    gamma_2,
    gamma_1_decay=1.0,
    aggregate="mean",
    bits=1,
    sign_zero="random",
    coin=None,
):
    """FedSMU, Algorithm 1."""
    x, path = problem.start(), []
    m = {i: problem.start() for i in range(len(problem.targets))}
    for t, cohort in problem.rounds():
        received = []
        for i in cohort:
            g = problem.sgd(x, i, t) - x
            v = beta_1 * m[i] + (1 - beta_1) * g
            received.append(sign(v, sign_zero, lambda i=i, t=t: coin(t, i)) if bits == 1 else quantise(v, bits))
            m[i] = beta_2 * m[i] + (1 - beta_2) * g
        u = mean(received)
        if aggregate == "majority":
            u = sign(sum(received), sign_zero, lambda t=t: coin(t, SERVER))
        step = gamma_1 * gamma_1_decay ** (t - 1)
        x = x + step * (u - gamma_2 * x)
        path.append(x)
    return path


def fedsmumc(problem, beta_1, beta_2, gamma_1, gamma_2, sign_zero="random", coin=None):
    """FedSMUMC, Algorithm 2."""
    x, path = problem.start(), []
    momentum = problem.start()
    for t, cohort in problem.rounds():
        signs, momenta = [], []
        for i in cohort:
            g = problem.sgd(x, i, t) - x
            signs.append(sign(beta_1 * momentum + (1 - beta_1) * g, sign_zero, lambda i=i, t=t: coin(t, i)))
            momenta.append(beta_2 * momentum + (1 - beta_2) * g)
        momentum = mean(momenta)
        x = x + gamma_1 * (mean(signs) - gamma_2 * x)
        path.append(x)
    return path


def fed_locallion(problem, beta_1, beta_2, gamma_1, gamma_2, server_lr=1.0, sign_zero="random", coin=None):
    """Fed-LocalLion, Algorithm 3."""
    x, path = problem.start(), []
    m = {i: problem.start() for i in range(len(problem.targets))}
    for t, cohort in problem.rounds():
        differences = []
        for i in cohort:
            y = problem.sgd(x, i, t)
            g = y - x
            u = sign(beta_1 * m[i] + (1 - beta_1) * g, sign_zero, lambda i=i, t=t: coin(t, i))
            m[i] = beta_2 * m[i] + (1 - beta_2) * g
            y = y + gamma_1 * (u - gamma_2 * y)
            differences.append(y - x)
        x = x + server_lr * mean(differences)
        path.append(x)
    return path


def fed_globallion(problem, beta_1, beta_2, gamma_1, gamma_2, sign_zero="random", coin=None):
    """Fed-GlobalLion, Algorithm 4."""
    x, path = problem.start(), []
    momentum = problem.start()
    for t, cohort in problem.rounds():
        g = mean([problem.sgd(x, i, t) - x for i in cohort])
        u = sign(beta_1 * momentum + (1 - beta_1) * g, sign_zero, lambda t=t: coin(t, SERVER))
        momentum = beta_2 * momentum + (1 - beta_2) * g
        x = x + gamma_1 * (u - gamma_2 * x)
        path.append(x)
    return path


def zsign(problem, sigma, server_lr, noise, noise_scale="gradient", sign_zero="plus", coin=None):
    """z-SignFedAvg, Algorithm 1; `noise` draws xi_z. noise_scale=update perturbs x - y instead of (x - y) / gamma."""
    x, path = problem.start(), []
    for t, cohort in problem.rounds():
        gamma, signs = problem.rate(t), []
        for i in cohort:
            v = x - problem.sgd(x, i, t)
            if noise_scale == "gradient":
                v = v / gamma
            signs.append(sign(v + sigma * noise(t, i), sign_zero, lambda i=i, t=t: coin(t, i)))
        x = x - server_lr * gamma * mean(signs)
        path.append(x)
    return path


def signsgd(problem, server_lr, aggregate="mean", theta=0.0, alpha=0.0, sign_zero="random", coin=None):
    """SIGNSGD(-SIM) of many workers: mean of signs or majority vote, gradient at the look-ahead point."""
    x, path = problem.start(), []
    previous = x
    m = {i: problem.start() for i in range(len(problem.targets))}
    for t, cohort in problem.rounds():
        y = x + alpha * (x - previous)
        signs = []
        for i in cohort:
            m[i] = theta * m[i] + (1 - theta) * problem.gradient(y, i)
            signs.append(sign(m[i], sign_zero, lambda i=i, t=t: coin(t, i)))
        direction = mean(signs)
        if aggregate == "majority":
            direction = sign(sum(signs), sign_zero, lambda t=t: coin(t, SERVER))
        previous = x
        x = x - server_lr * direction
        path.append(x)
    return path


def sgdm(problem, server_lr, momentum):
    """Distributed SGD with heavy-ball momentum."""
    x, path = problem.start(), []
    buffer = problem.start()
    for _, cohort in problem.rounds():
        buffer = momentum * buffer + mean([problem.gradient(x, i) for i in cohort])
        x = x - server_lr * buffer
        path.append(x)
    return path


METHODS = {f.__name__: f for f in (fedavg, fedsmu, fedsmumc, fed_locallion, fed_globallion, zsign, signsgd, sgdm)}
