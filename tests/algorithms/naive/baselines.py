"""FedAvg, SIGNSGD and distributed SGD with momentum."""

from __future__ import annotations

from naive.problem import SERVER, mean, sign


def fedavg(problem, server_lr=1.0):
    x, path = problem.start(), []
    for t, cohort in problem.rounds():
        x = x + server_lr * mean([problem.sgd(x, i, t) - x for i in cohort])
        path.append(x)
    return path


def signsgd(
    problem,
    server_lr,
    aggregate="mean",
    theta=0.0,
    alpha=0.0,
    server_lr_decay=1.0,
    server_lr_drops=(),
    sign_zero="random",
    coin=None,
):
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
        x = x - server_lr / 10 ** len([r for r in server_lr_drops if r < t]) * server_lr_decay ** (t - 1) * direction
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


METHODS = {f.__name__: f for f in (fedavg, signsgd, sgdm)}
