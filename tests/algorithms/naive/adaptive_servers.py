"""FedAMS and FedCAMS."""

from __future__ import annotations

import numpy as np

from naive.error_feedback import compress
from naive.problem import mean


def fedcams(
    problem,
    server_lr=1.0,
    beta_1=0.9,
    beta_2=0.99,
    eps=1e-3,
    codec="sign",
    ratio=1 / 64,
    sign_zero="random",
    coin=None,
):
    """FedCAMS, max-stabilised."""
    x, path = problem.start(), []
    e = {i: problem.start() for i in range(len(problem.targets))}
    m, v, v_hat = problem.start(), problem.start(), np.full_like(x, eps)
    for t, cohort in problem.rounds():
        received = []
        for i in cohort:
            delta = problem.sgd(x, i, t) - x
            sent = compress(delta + e[i], codec, ratio, sign_zero, lambda i=i, t=t: coin(t, i))
            e[i] = e[i] + delta - sent
            received.append(sent)
        average = mean(received)
        m = beta_1 * m + (1 - beta_1) * average
        v = beta_2 * v + (1 - beta_2) * average**2
        v_hat = np.maximum(np.maximum(v_hat, v), eps)
        x = x + server_lr * m / np.sqrt(v_hat)
        path.append(x)
    return path


def fedams(problem, **keys):
    """FedAMS."""
    return fedcams(problem, codec="identity", **keys)


METHODS = {f.__name__: f for f in (fedams, fedcams)}
