"""SCAFFOLD, SCALLION and SCAFCOM."""

from __future__ import annotations

import numpy as np

from naive.error_feedback import compress
from naive.problem import mean


def corrected(problem, x, i, t, correction):
    """K steps y ← y − η (g(y) + correction)."""
    y = x.copy()
    for _ in range(problem.steps):
        y = y - problem.rate(t) * (problem.gradient(y, i) + correction)
    return y


def qsgd(v, levels, u):
    """‖v‖_2 sgn(v) ξ, ξ = ℓ/s or (ℓ+1)/s; the higher if the draw is below the remainder."""
    norm = np.sqrt(np.sum(v**2))
    out = np.zeros_like(v)
    for j, value in enumerate(v):
        if norm > 0:
            level = np.floor(abs(value) / norm * levels)
            level += u[j] < abs(value) / norm * levels - level
            out[j] = norm * np.sign(value) * level / levels
    return out


def scaffold(problem, server_lr=1.0):
    """SCAFFOLD, option II."""
    x, path = problem.start(), []
    c, clients = problem.start(), len(problem.targets)
    c_i = {i: problem.start() for i in range(clients)}
    for t, cohort in problem.rounds():
        delta_y, delta_c = [], []
        for i in cohort:
            y = corrected(problem, x, i, t, c - c_i[i])
            new = c_i[i] - c + (x - y) / (problem.steps * problem.rate(t))
            delta_y.append(y - x)
            delta_c.append(new - c_i[i])
            c_i[i] = new
        x = x + server_lr * mean(delta_y)
        c = c + sum(delta_c) / clients
        path.append(x)
    return path


def incremental(problem, server_lr, increment):
    """What SCALLION and SCAFCOM share; ``increment(i, t, mean_step, c, c_i)`` is the compressed one."""
    x, path = problem.start(), []
    c, clients = problem.start(), len(problem.targets)
    c_i = {i: problem.start() for i in range(clients)}
    for t, cohort in problem.rounds():
        eta_k = problem.rate(t) * problem.steps
        received = []
        for i in cohort:
            y = corrected(problem, x, i, t, c - c_i[i])
            delta = increment(i, t, (x - y) / eta_k, c, c_i[i])
            c_i[i] = c_i[i] + delta
            received.append(delta)
        x = x - server_lr * eta_k * (mean(received) + c)
        c = c + sum(received) / clients
        path.append(x)
    return path


def scallion(problem, alpha=0.1, server_lr=1.0, codec="qsgd", levels=7, rounding=None):
    """SCALLION."""

    def increment(i, t, mean_step, c, c_i):
        delta = alpha * (mean_step - c)
        return delta if codec == "identity" else qsgd(delta, levels, rounding(t, i))

    return incremental(problem, server_lr, increment)


def scafcom(problem, beta=0.2, server_lr=1.0, codec="topk", ratio=0.05, sign_zero="random", coin=None):
    """SCAFCOM."""
    v = {i: problem.start() for i in range(len(problem.targets))}

    def increment(i, t, mean_step, c, c_i):
        v[i] = (1 - beta) * v[i] + beta * (mean_step + c_i - c)
        return compress(v[i] - c_i, codec, ratio, sign_zero, lambda: coin(t, i))

    return incremental(problem, server_lr, increment)


METHODS = {f.__name__: f for f in (scaffold, scallion, scafcom)}
