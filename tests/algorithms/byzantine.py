"""Attacks and robust rules as plain loops in float64, with nothing of fedsign in it."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from naive.problem import mean


def median(rows, f):
    columns = [sorted(column) for column in np.array(rows).T]
    n = len(rows)
    return np.array([c[n // 2] if n % 2 else (c[n // 2 - 1] + c[n // 2]) / 2 for c in columns])


def trimmed_mean(rows, f):
    n = len(rows)
    b = f
    while 2 * b >= n:  # of fewer vectors than the rule was set up for
        b -= 1
    return np.array([sum(sorted(column)[b : n - b]) / (n - 2 * b) for column in np.array(rows).T])


def by_score(rows, f):
    n = len(rows)
    neighbours = max(n - f - 2, 1)
    scores = []
    for i in range(n):
        distances = sorted(np.sum((rows[i] - rows[j]) ** 2) for j in range(n) if j != i)
        scores.append(sum(distances[:neighbours]))
    return sorted(range(n), key=lambda i: scores[i])


def krum(rows, f):
    return rows[by_score(rows, f)[0]]


def multi_krum(rows, f):
    f = min(f, len(rows) - 3)
    return mean([rows[i] for i in by_score(rows, f)[: len(rows) - f]])


def geometric_median(rows, f):
    y = mean(rows)
    for _ in range(100):
        weights = [1 / max(np.linalg.norm(row - y), 1e-6) for row in rows]
        y = sum(w * row for w, row in zip(weights, rows, strict=True)) / sum(weights)
    return y


RULES = {
    "mean": lambda rows, f: mean(rows),
    "median": median,
    "trimmed_mean": trimmed_mean,
    "krum": krum,
    "multi_krum": multi_krum,
    "geometric_median": geometric_median,
}


def alie(honest, n):
    f = n - len(honest)
    s = n // 2 + 1 - f
    z = NormalDist().inv_cdf((n - f - s) / (n - f))
    mu = mean(honest)
    sigma = np.sqrt(mean([(row - mu) ** 2 for row in honest]))
    return mu - z * sigma


# own message, honest messages, n, the server's rule, a draw of the attacker -> the vector it would like to send
ATTACKS = {
    "none": lambda own, honest, n, rule, draw: own,
    "opposite": lambda own, honest, n, rule, draw: -rule(honest),
    "sign_flip": lambda own, honest, n, rule, draw: -1.5 * own,
    "gaussian": lambda own, honest, n, rule, draw: 0.7 * draw,
    "gaussian-own": lambda own, honest, n, rule, draw: own + 0.7 * draw,
    "random_bits": lambda own, honest, n, rule, draw: np.where(draw < 0.5, 1.0, -1.0),
    "alie": lambda own, honest, n, rule, draw: alie(honest, n),
    "ipm": lambda own, honest, n, rule, draw: -0.5 * mean(honest),
}


def run(problem, message, rule, attack, attackers, draw, step):
    """The path of x ← x − step · rule(messages), the attackers' messages replaced in every round.

    Args:
        problem: the consensus problem.
        message: (x, client, round) to what an honest client sends.
        rule: messages to the server's direction.
        attack: one of `ATTACKS`.
        attackers: ids.
        draw: (round, client) to the attacker's random vector.
        step: of the server.
    """
    x, path = problem.start(), []
    for t, cohort in problem.rounds():
        sent = {i: message(x, i, t) for i in cohort}
        honest = [sent[i] for i in cohort if i not in attackers]
        arrived = [
            ATTACKS[attack](sent[i], honest, len(cohort), rule, draw(t, i)) if i in attackers else sent[i]
            for i in cohort
        ]
        x = x - step * rule(arrived)
        path.append(x)
    return path
