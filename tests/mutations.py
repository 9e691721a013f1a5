"""What happens to bytes on a bad disk or a hostile wire: uint8 arrays in, others out."""

import numpy as np


def flip(data, rng):
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return data


def several(data, rng):
    for _ in range(rng.integers(2, 9)):
        data = flip(data, rng)
    return data


def byte(data, rng):
    data[rng.integers(len(data))] = rng.choice([0x00, 0x7F, 0x80, 0xFF])
    return data


def cut(data, rng):
    return data[: rng.integers(len(data))]


def extend(data, rng):
    return np.append(data, rng.integers(256, size=rng.integers(1, 9), dtype=np.uint8))


def zero(data, rng):
    start, stop = sorted(rng.integers(len(data) + 1, size=2))
    data[start:stop] = 0
    return data


def splice(data, rng):
    """A piece of itself somewhere else."""
    start, stop = sorted(rng.integers(len(data) + 1, size=2))
    at = rng.integers(len(data) + 1)
    return np.concatenate([data[:at], data[start:stop], data[at:]])


def shuffle(data, rng):
    return rng.permutation(data)


def noise(data, rng):
    return rng.integers(256, size=len(data), dtype=np.uint8)


MUTATIONS = (flip, several, byte, cut, extend, zero, splice, shuffle, noise)


def mutated(whole, rng):
    """Bytes that differ from `whole`."""
    while True:
        data = MUTATIONS[rng.integers(len(MUTATIONS))](np.frombuffer(whole, np.uint8).copy(), rng).tobytes()
        if data != whole:
            return data
