"""FedSMU and its variants (Lu et al., Algorithms 1 to 4)."""

from __future__ import annotations

import numpy as np

from naive.problem import SERVER, mean, sign


def quantise(v, bits):
    """v / max|v| rounded to the nearest of the 2^bits - 1 levels -1, ..., 0, ..., 1; 32 bits leave v as it is."""
    if bits == 32:
        return v.copy()
    largest = np.max(np.abs(v))
    if largest == 0:
        return np.zeros_like(v)
    levels = np.linspace(-1, 1, 2**bits - 1)
    return np.array([levels[np.argmin(np.abs(levels - value / largest))] for value in v])


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


METHODS = {f.__name__: f for f in (fedsmu, fedsmumc, fed_locallion, fed_globallion)}
