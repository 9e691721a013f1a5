"""FedVote, FedMRN, FedPM, FedMask, HideNseek and FedSparsify.

`uniform(t, i, what)` draws [d] from [0, 1): `what` is "mask", or the number of a local step.
"""

from __future__ import annotations

import math

import numpy as np

from naive.problem import SERVER, mean, sign


def trained(problem, v, t, i, effective, derivative, optimizer="adam"):
    """K steps on v of the loss at effective(v, k), with the gradient times derivative(v)."""
    m, s = np.zeros_like(v), np.zeros_like(v)
    for k in range(1, problem.steps + 1):
        g = problem.gradient(effective(v, k), i) * derivative(v)
        if optimizer == "local":
            v = v - problem.rate(t) * g
            continue
        m = 0.9 * m + 0.1 * g
        s = 0.999 * s + 0.001 * g**2
        v = v - problem.rate(t) * (m / (1 - 0.9**k)) / (np.sqrt(s / (1 - 0.999**k)) + 1e-8)
    return v


def fedvote(
    problem, uniform, coin, a=1.5, p_min=0.001, levels=2, vote="soft", beta=0.5, reference="literal",
    cut_below_mean=False, optimizer="adam", sign_zero="random",
):  # fmt: skip
    """FedVote, Algorithm 1; x_0 = 0 has no deviation, so p^(0) = 1/2."""
    d = problem.targets.shape[1]
    p, path = np.full(d, 0.5), []
    nu = np.ones(len(problem.targets))
    for t, cohort in problem.rounds():
        received = []
        for i in cohort:
            h = np.arctanh(2 * p - 1) / a
            h = trained(
                problem, h, t, i, lambda h, k: np.tanh(a * h), lambda h: a * (1 - np.tanh(a * h) ** 2), optimizer
            )
            w, U = np.tanh(a * h), uniform(t, i, "mask")
            if levels == 2:
                received.append(np.where((1 + w) / 2 > U, 1.0, -1.0))
            else:
                received.append(np.where(np.abs(w) > U, np.sign(w), 0.0))
        if levels == 3:
            p = np.clip((1 + mean(received)) / 2, p_min, 1 - p_min)
        else:
            lam = np.array([nu[i] for i in cohort])
            if vote == "soft":
                lam = np.ones(len(cohort))
            elif cut_below_mean:
                lam = np.where(lam < lam.mean() - 1e-9, 0.0, lam)
            lam = lam / lam.sum()
            p = np.clip(sum(share * (w == 1) for share, w in zip(lam, received, strict=True)), p_min, 1 - p_min)
            counted = [nu[i] * w if reference == "nu_weighted" else w for i, w in zip(cohort, received, strict=True)]
            plurality = sign(np.round(sum(counted), 9), sign_zero, lambda t=t: coin(t, SERVER))
            for i, w in zip(cohort, received, strict=True):
                nu[i] = beta * nu[i] + (1 - beta) * np.mean(w == plurality)
        path.append(2 * p - 1)
    return path


def fedmrn(
    problem, noise, uniform, mask="binary", stochastic_masking=True, progressive_masking=True, after_training=False
):
    """FedMRN, Algorithm 1."""
    lowest = 0.0 if mask == "binary" else -1.0
    x, path = problem.start(), []
    for t, cohort in problem.rounds():
        updates = []
        for i in cohort:
            n, u = noise(t, i), problem.start()

            def probability(u, n=n):
                return np.clip(u / n if mask == "binary" else (u + n) / (2 * n), 0, 1)

            def masked(u, U, n=n, probability=probability):
                one = probability(u) > U if stochastic_masking else u * n > 0
                return n * np.where(one, 1.0, lowest)

            if after_training:
                u = problem.sgd(x, i, t) - x
            else:
                for k in range(1, problem.steps + 1):
                    P = k / problem.steps if progressive_masking else 1.0
                    U = uniform(t, i, k)  # given U < P, U / P is uniform
                    hat = np.where(U < P, masked(u, U / P), np.clip(u / n, lowest, 1) * n)
                    u = u - problem.rate(t) * problem.gradient(x + hat, i)
            updates.append(masked(u, uniform(t, i, "mask")))
        x = x + mean(updates)  # every client has one sample
        path.append(x)
    return path


def sigmoid(s):
    return 1 / (1 + np.exp(-s))


def logit(p):
    return np.log(p / (1 - p))


def fedpm(problem, uniform, scores, signs, eps=0.01, optimizer="adam"):
    """FedPM; the released gradient has sigma(s) twice."""
    d = problem.targets.shape[1]
    w, theta, path = signs * math.e / np.sqrt(d), sigmoid(scores), []
    for t, cohort in problem.rounds():
        masks = []
        for i in cohort:
            s = trained(
                problem, logit(theta), t, i,
                lambda s, k, t=t, i=i: w * (uniform(t, i, k) < sigmoid(s)),
                lambda s: w * sigmoid(s) * sigmoid(s) * (1 - sigmoid(s)), optimizer,
            )  # fmt: skip
            m = uniform(t, i, "mask") < sigmoid(s)
            masks.append(np.where(m, 1 - eps, eps))
        theta = mean(masks)
        path.append(w * (uniform(t, SERVER, "mask") < theta))
    return path


def fedmask(problem, uniform, scores, signs, eps=0.01, optimizer="adam"):
    """FedMask without personal models: masks 1[s > 0], straight through."""
    d = problem.targets.shape[1]
    w, theta, path = signs * math.e / np.sqrt(d), sigmoid(scores), []
    for t, cohort in problem.rounds():
        masks = []
        for i in cohort:
            s = trained(problem, logit(theta), t, i, lambda s, k: w * (s > 0), lambda s: w, optimizer)
            masks.append(np.where(s > 0, 1 - eps, eps))
        theta = mean(masks)
        path.append(w * (theta > 0.5))
    return path


def hidenseek(problem, scores, normal, sparsity=0.5, eps=0.01, optimizer="adam"):
    """Signs of the frozen weights that are left; scores are of these alone."""
    d = problem.targets.shape[1]
    kept = np.sort(np.argsort(-np.abs(normal))[: d - int(sparsity * d)])
    w, theta, path = np.zeros(d), sigmoid(scores(len(kept))), []
    w[kept] = normal[kept] * np.sqrt(2 / d)
    for t, cohort in problem.rounds():
        masks = []
        for i in cohort:
            s = np.zeros(d)
            s[kept] = logit(theta)
            s = trained(problem, s, t, i, lambda s, k: w * np.where(s > 0, 1, -1), lambda s: w, optimizer)
            masks.append(np.where(s[kept] > 0, 1 - eps, eps))
        theta = mean(masks)
        x = np.zeros(d)
        x[kept] = w[kept] * np.where(theta > 0.5, 1, -1)
        path.append(x)
    return path


def fedsparsify(problem, sparsity, schedule="constant", exponent=3.0, frequency=1, prune="client", T=10):
    """FedSparsify, with one magnitude threshold for the whole model."""

    def s(t):
        if schedule == "constant":
            return sparsity
        done = (max(1, frequency * (t // frequency)) - 1) / (T - 1) if t < T else 1
        return sparsity * (1 - (1 - done) ** exponent)

    def pruned(x, t):
        kept = np.argsort(-np.abs(x), kind="stable")[: max(1, len(x) - int(s(t) * len(x)))]
        return np.where(np.isin(np.arange(len(x)), kept), x, 0.0)

    x, path = problem.start(), []
    left = np.ones_like(x)
    for t, cohort in problem.rounds():
        models = []
        for i in cohort:
            y = x.copy()
            for _ in range(problem.steps):
                y = y - problem.rate(t) * problem.gradient(y, i) * left
            models.append(pruned(y, t) if prune == "client" else y)
        x = mean(models)
        if prune == "server":
            x = pruned(x, t)
        if s(t) > 0:
            left = (x != 0).astype(float)
        path.append(x)
    return path


METHODS = {f.__name__: f for f in (fedvote, fedmrn, fedpm, fedmask, hidenseek, fedsparsify)}
