"""FedEF, EF21 and EF-SignSGD, with the compressors that they share. Every group is the whole vector here."""

from __future__ import annotations

import numpy as np

from naive.problem import SERVER, mean, sign


def top(v, k):
    """Indices of the k largest magnitudes; ties go to the lowest index."""
    return sorted(sorted(range(len(v)), key=lambda j: (-abs(v[j]), j))[:k])


def compress(v, codec, ratio=None, sign_zero="random", coin=None):
    """C(v): `topk`, `sign` (the mean magnitude with signs), `heavy_sign` (the same of the top k), or `identity`."""
    if codec == "identity":
        return v.copy()
    if codec == "sign":
        return np.mean(np.abs(v)) * sign(v, sign_zero, coin)
    kept = top(v, max(1, int(ratio * len(v))))
    out = np.zeros_like(v)
    out[kept] = v[kept] if codec == "topk" else np.mean(np.abs(v[kept])) * sign(v[kept], sign_zero, coin)
    return out


def fedef(
    problem,
    codec="sign",
    ratio=0.05,
    server="sgd",
    server_lr=1.0,
    beta_1=0.9,
    beta_2=0.999,
    eps=1e-8,
    sign_zero="random",
    coin=None,
):
    """FedEF-SGD and FedEF-AMS."""
    x, path = problem.start(), []
    e = {i: problem.start() for i in range(len(problem.targets))}
    m, v, v_hat = problem.start(), problem.start(), problem.start()
    for t, cohort in problem.rounds():
        received = []
        for i in cohort:
            delta = x - problem.sgd(x, i, t)
            q = compress(delta + e[i], codec, ratio, sign_zero, lambda i=i, t=t: coin(t, i))
            e[i] = e[i] + delta - q
            received.append(q)
        average = mean(received)
        if server == "sgd":
            x = x - server_lr * average
        else:
            m = beta_1 * m + (1 - beta_1) * average
            v = beta_2 * v + (1 - beta_2) * average**2
            v_hat = np.maximum(v_hat, v)
            x = x - server_lr * m / np.sqrt(v_hat + eps)
        path.append(x)
    return path


def ef21(problem, codec="topk", ratio=0.05, server_lr=1.0, warm_start=False, sign_zero="random", coin=None):
    """EF21: the server steps along the mean of the g_i of all N clients, whoever took part."""
    x, path = problem.start(), []
    g = {i: problem.start() for i in range(len(problem.targets))}
    seen = set()
    for t, cohort in problem.rounds():
        for i in cohort:
            d = x - problem.sgd(x, i, t)
            if warm_start and i not in seen:
                g[i] = d
            else:
                g[i] = g[i] + compress(d - g[i], codec, ratio, sign_zero, lambda i=i, t=t: coin(t, i))
            seen.add(i)
        x = x - server_lr * mean(list(g.values()))
        path.append(x)
    return path


def ef_signsgd(problem, placement="server", momentum=0.9, server_lr=0.05, sign_zero="random", coin=None):
    """EF-SignSGD with the momentum of the workers, of the server, or both ways compressed."""
    x, path = problem.start(), []
    e = {i: problem.start() for i in range(len(problem.targets))}
    m = {i: problem.start() for i in e}
    server_m, server_e = problem.start(), problem.start()
    for t, cohort in problem.rounds():
        received = []
        for i in cohort:
            g = problem.gradient(x, i)
            m[i] = momentum * m[i] + g
            p = {"server": g, "worker": server_lr * m[i], "block": g + momentum * m[i]}[placement] + e[i]
            q = compress(p, "sign", sign_zero=sign_zero, coin=lambda i=i, t=t: coin(t, i))
            e[i] = p - q
            received.append(q)
        average = mean(received)
        if placement == "worker":
            x = x - average
        elif placement == "server":
            server_m = momentum * server_m + average
            x = x - server_lr * server_m
        else:
            p = average + server_e
            q = compress(p, "sign", sign_zero=sign_zero, coin=lambda t=t: coin(t, SERVER))
            server_e = p - q
            x = x - server_lr * q
        path.append(x)
    return path


METHODS = {f.__name__: f for f in (fedef, ef21, ef_signsgd)}
