"""MV-sto-signSGD-SIM and its federated form (Sun et al., Algorithms 2 and 3); Sto-SignSGD with momentum."""

from __future__ import annotations

import numpy as np

from naive.problem import SERVER, mean, sign


def stochastic_sign(v, R, u):
    """+1 with probability clip(1/2 + v/(2R), 0, 1), decided by u uniform on [0, 1)."""
    p = np.clip(0.5 + v / (2 * R), 0, 1)
    return np.where(1 - u < p, 1.0, -1.0)


def mv_sto_signsgd(
    problem,
    server_lr,
    theta,
    R,
    uniform,
    alpha=0.0,
    local_steps=0,
    server_lr_decay=1.0,
    server_lr_drops=(),
    sign_zero="random",
    coin=None,
):
    x, path = problem.start(), []
    previous = x
    m = {i: problem.start() for i in range(len(problem.targets))}
    for t, cohort in problem.rounds():
        y = x + alpha * (x - previous)
        votes = problem.start()
        for i in cohort:
            z = y
            for _ in range(local_steps):
                z = z - problem.rate(t) * problem.gradient(z, i)
            m[i] = theta * m[i] + (1 - theta) * problem.gradient(z, i)
            votes = votes + stochastic_sign(m[i], R, uniform(t, i))
        previous = x
        gamma = server_lr / 10 ** len([r for r in server_lr_drops if r < t]) * server_lr_decay ** (t - 1)
        x = x - gamma * sign(votes, sign_zero, lambda t=t: coin(t, SERVER))
        path.append(x)
    return path


def sto_signsgd(problem, server_lr, theta, uniform):
    x, path = problem.start(), []
    v = {i: problem.start() for i in range(len(problem.targets))}
    for t, cohort in problem.rounds():
        signs = []
        for i in cohort:
            v[i] = theta * v[i] + (1 - theta) * problem.gradient(x, i)
            signs.append(stochastic_sign(v[i], np.linalg.norm(v[i]), uniform(t, i)))
        x = x - server_lr * mean(signs)
        path.append(x)
    return path


METHODS = {f.__name__: f for f in (mv_sto_signsgd, sto_signsgd)}
