"""Client sampling: who takes part in a round."""

from __future__ import annotations

from fedsign.randomness import generator


def cohort(seed: int, round: int, clients: int, size: int) -> list[int]:
    """The ids of a round's cohort, drawn uniformly without replacement, in increasing order.

    Depends on nothing but its arguments, so that every method of a comparison sees the same cohorts.
    """
    drawn = generator(seed, "cohort", round).choice(clients, size=size, replace=False)
    return sorted(int(client) for client in drawn)
