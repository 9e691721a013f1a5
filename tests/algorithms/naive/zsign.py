"""z-SignFedAvg."""

from __future__ import annotations

from naive.problem import mean, sign


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


METHODS = {f.__name__: f for f in (zsign,)}
