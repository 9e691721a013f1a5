"""FedLion (Tang & Chang) and Distributed Lion (Liu et al.)."""

from __future__ import annotations

import numpy as np

from naive.problem import SERVER, mean, sign


def fedlion(problem, beta_1, beta_2, lr):
    """Lion on every client, from the server's model and momentum; both are averaged."""
    x, m, path = problem.start(), problem.start(), []
    for _, cohort in problem.rounds():
        sums, momenta = [], []
        for i in cohort:
            y, m_i = x.copy(), m.copy()
            for _ in range(problem.steps):
                g = problem.gradient(y, i)
                y = y - lr * np.sign(beta_1 * m_i + (1 - beta_1) * g)
                m_i = beta_2 * m_i + (1 - beta_2) * g
            sums.append((x - y) / lr)
            momenta.append(m_i)
        x = x - lr * mean(sums)
        m = mean(momenta)
        path.append(x)
    return path


def dlion(problem, lr, weight_decay, beta_1, beta_2, aggregate="mean", sync=True, sign_zero="random", coin=None):
    """D-Lion-Avg and D-Lion-MaVo; every worker has its own model, and receives the update if it takes part.

    With sync=True all workers receive it. A worker's update is y_K - x_i, so the sum of the signs is added.
    """
    workers = range(len(problem.targets))
    x = {i: problem.start() for i in workers}
    m = {i: problem.start() for i in workers}
    path = []
    for t, cohort in problem.rounds():
        signs = []
        for i in cohort:
            g = problem.sgd(x[i], i, t) - x[i]
            signs.append(sign(beta_1 * m[i] + (1 - beta_1) * g, sign_zero, lambda i=i, t=t: coin(t, i)))
            m[i] = beta_2 * m[i] + (1 - beta_2) * g
        update = mean(signs)
        if aggregate == "majority":
            update = sign(sum(signs), sign_zero, lambda t=t: coin(t, SERVER))
        for i in workers if sync else cohort:
            x[i] = x[i] + lr * (update - weight_decay * x[i])
        path.append(mean([x[i] for i in workers]))
    return path


METHODS = {f.__name__: f for f in (fedlion, dlion)}
