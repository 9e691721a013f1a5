"""Counter-based randomness: every draw is a function of (seed, purpose, round, client) and of nothing else.

No generator state is ever carried, so the numbers do not depend on who trained which client where, and a resumed
run needs nothing restored.
"""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, purpose: str, round: int = 0, client: int = 0) -> np.random.Generator:
    """The stream of one purpose, round and client.

    Philox with key (seed, purpose) and the round and the client in the two upper words of its 256-bit counter: streams
    of one key cannot overlap before 2^128 draws.

    Args:
        seed: the run's seed, >= 0.
        purpose: what is drawn ("cohort", "order", "noise", ...); purposes are independent of each other.
        round: communication round, from 1; 0 before the first.
        client: client id; 0 where no client is concerned.
    """
    key = np.array([seed, zlib.crc32(purpose.encode())], dtype=np.uint64)
    counter = np.array([0, 0, round, client], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
