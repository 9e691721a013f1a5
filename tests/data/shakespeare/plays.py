"""Roles made up for the tests, and what is read of them."""

import numpy as np
import torch

from fedsign.data.shakespeare import ALPHABET

WINDOW = 80
FOLDER = "shakespeare"
ALL = {"roles": None, "train_windows": None, "test_windows": None}


def text(length, seed=0):
    return "".join(np.random.default_rng([length, seed]).choice(list(ALPHABET), length))


def samples(text):
    """All windows of a text, each with the character that follows."""
    return [(text[i : i + WINDOW], text[i + WINDOW]) for i in range(len(text) - WINDOW)]


def split(text, fraction):
    """Training and test samples of a role by LEAF's rule."""
    every = samples(text)
    n = int(fraction * len(every))
    return every[:n], every[n + WINDOW - 1 :]


def decoded(task):
    """Training samples of each role, and the test samples, as texts."""

    def pairs(inputs, targets):
        rows = inputs(torch.arange(len(targets)))
        return [
            ("".join(ALPHABET[i] for i in x), ALPHABET[y]) for x, y in zip(rows.tolist(), targets.tolist(), strict=True)
        ]

    every = pairs(task.train_inputs, task.y_train)
    train = [
        [sample for sample, owner in zip(every, task.owners, strict=True) if owner == role]
        for role in range(max(task.owners) + 1)
    ]
    return train, pairs(task.test_inputs, task.y_test)


def joined(lists):
    return [sample for part in lists for sample in part]


ROLES = {"HAMLET": text(500), "ANTONY": text(420), "ROMEO": text(611)}
TEXTS = [ROLES[name] for name in sorted(ROLES)]


def leaf(texts, fraction=0.5):
    """Both splits of users by name."""
    parts = {name: split(content, fraction) for name, content in texts.items()}
    return [{name: part[i] for name, part in parts.items()} for i in range(2)]
