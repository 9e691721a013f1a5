"""DRIVE and EDEN: quantisation in one to four bits after a randomised Hadamard rotation.

Vargaftik et al., NeurIPS 2021 and ICML 2022. With R = H D / √D, H the Walsh-Hadamard matrix and D random signs, the
entries of R x are nearly normal, whatever x, so that the best quantiser of a standard normal is near the best for them.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedsign.codecs import bits
from fedsign.codecs.codec import Codec, finite, nonzero, norm
from fedsign.codecs.dense import floats
from fedsign.codecs.sparse import legal_scales
from fedsign.local.streams import Streams
from fedsign.randomness import generator

SMALLEST = 64  # from this length on, the squared bias of x̂ (unbiased scale) is below 1e-4 ‖x‖² for dense x, as measured
FACTOR = 16  # the transform is a product with matrices of this size: fastest on the CPUs measured, among 2 to 4096


class Hadamard(Codec):
    """x̂ = S R^{-1} Q(R x √D / ‖x‖) of every block of x, Q the nearest of 2^b Lloyd-Max centroids of N(0, 1).

    A transform needs a power of two. The vector is cut into blocks of that length (see `blocks`), the last one padded
    with zeros. A row is the 32-bit seed of the signs, the float32 scale S of every block, and b planes of packed
    symbols: b D + 32 B + 32 bits with D the padded length and B the number of blocks, each plane padded to a byte.

    Attributes:
        k: b, 1 to 4.
        scale: of y = R x and q = Q(...), ``unbiased`` is S = ‖x‖² / ⟨q, y⟩, which makes ⟨x̂, x⟩ = ‖x‖²; ``mse`` is
            S = ⟨q, y⟩ / ‖q‖², which makes ‖x̂ − x‖ least. With one bit and the signs s = ±1 of y, these are
            x̂ = (‖x‖² / ‖y‖_1) R^{-1} s and x̂ = (‖y‖_1 / D) R^{-1} s.
    """

    def __init__(self, k: int, scale: Literal["unbiased", "mse"]):
        self.k, self.scale = k, scale

    def symbols(self, d: int) -> int:
        """The padded length."""
        return sum(blocks(d))

    def length(self, d: int) -> int:
        """4 + 4 B + b ceil(D / 8) bytes."""
        return 4 + 4 * len(blocks(d)) + self.k * bits.packed_length(self.symbols(d))

    def unpadded_bits(self, d: int) -> int:
        """b D + 32 B + 32."""
        return self.k * self.symbols(d) + 32 * len(blocks(d)) + 32

    def encode(self, x: Tensor, streams: Streams) -> list[Tensor]:
        """Rows of seed, scales and symbols of x [n, d]. Raises PayloadError if a value or scale is not finite."""
        return [self._encode(row, int(streams.numpy("rotation", i).integers(2**32))) for i, row in enumerate(finite(x))]

    def decode(self, rows: list[Tensor], d: int) -> Tensor:
        """x̂ [n, d]. Raises PayloadError on a wrong length, padding, a scale < 0, or values that are not finite."""
        D = self.symbols(d)
        seeds, scales, planes = self.stacked(rows, d).split(
            [4, 4 * len(blocks(d)), self.k * bits.packed_length(D)], dim=1
        )
        scales = legal_scales(floats(scales))
        levels = torch.tensor(centroids(self.k), device=planes.device)
        x = torch.empty(len(rows), d, device=planes.device)
        for i, (seed, symbols) in enumerate(zip(seeds.tolist(), bits.unpack_symbols(planes, D, self.k), strict=True)):
            signs, q = _signs(int.from_bytes(bytes(seed), "little"), D, x.device), levels.index_select(0, symbols)
            for j, (here, there) in enumerate(_places(d)):
                block = transform(q[there]).mul_(scales[i, j]).mul_(signs[there])  # S R^{-1} q
                x[i, here] = block[: here.stop - here.start]
        return finite(x)  # a scale may be so large that its product is not

    def _encode(self, x: Tensor, seed: int) -> Tensor:
        d, D = len(x), self.symbols(len(x))
        signs = _signs(seed, D, x.device)
        digits = torch.empty(self.k, D, dtype=torch.bool, device=x.device)
        scales = []
        for here, there in _places(d):
            length = norm(x[None, here])[0, 0]
            block = torch.zeros(there.stop - there.start, device=x.device)
            root = math.sqrt(len(block))
            block[: here.stop - here.start] = x[here] * (root / nonzero(length))
            y = transform(block.mul_(signs[there]))  # R x √D / ‖x‖
            q = self._quantise(y, digits[:, there])
            product = torch.dot(q, y)
            factor = root / product if self.scale == "unbiased" else product / torch.dot(q, q) / root
            scales.append(torch.where(length > 0, length * factor, 0))  # S
        head = torch.tensor(list(seed.to_bytes(4, "little")), dtype=torch.uint8, device=x.device)
        scale = finite(torch.stack(scales)[None]).view(torch.uint8)[0]
        return torch.cat([head, scale, bits.pack(digits).flatten()])

    def _quantise(self, y: Tensor, digits: Tensor) -> Tensor:
        """The centroids nearest to y [D]; the b digits of their numbers, highest first, are written to `digits`."""
        levels = torch.tensor(centroids(self.k), device=y.device)
        edges = (levels[1:] + levels[:-1]) / 2  # where the nearest centroid changes
        symbols = torch.zeros(len(y), dtype=torch.int32, device=y.device)
        for i, digit in enumerate(digits):  # a binary search
            span = 2 ** (self.k - i)
            torch.ge(y, edges[span // 2 - 1 :: span].index_select(0, symbols), out=digit)
            symbols.mul_(2).add_(digit.view(torch.uint8))
        return levels.index_select(0, symbols)


@functools.cache
def blocks(d: int) -> tuple[int, ...]:
    """Powers of two of sum >= d, largest first: of all ways to split off halves, the one that costs the fewest bits.

    A block costs the 32 bits of its scale, and a value of padding one bit (or b; the blocks do not depend on b). None
    is smaller than SMALLEST, unless d is. Padding is below 1 % of d from d = 16 222 on.
    """
    whole = 1 << (d - 1).bit_length()
    if whole <= SMALLEST:
        return (whole,)
    halves = (whole // 2, *blocks(max(d - whole // 2, SMALLEST)))
    return (whole,) if d == whole or whole + 32 <= sum(halves) + 32 * len(halves) else halves


def _places(d: int) -> Iterator[tuple[slice, slice]]:
    """Where each block lies in the vector, and in the padded vector."""
    start = 0
    for size in blocks(d):
        yield slice(start, min(start + size, d)), slice(start, start + size)
        start += size


def _signs(seed: int, D: int, device: torch.device) -> Tensor:
    """The ±1 [D] of a seed, the same on every device."""
    packed = np.frombuffer(generator(seed, "hadamard").bytes(bits.packed_length(D)), dtype=np.uint8)
    return (
        bits.unpack(torch.tensor(packed, device=device)[None], D)[0].view(torch.uint8).to(torch.float32).mul_(2).sub_(1)
    )


def transform(x: Tensor) -> Tensor:
    """H x / √D of x [D], D a power of two: orthonormal, symmetric and so its own inverse.

    H is a Kronecker product of small Hadamard matrices, and is applied as products with them, one axis after the other.
    """
    D, done = len(x), 1
    free, other = torch.empty_like(x), torch.empty_like(x)
    while done < D:
        m = min(FACTOR, D // done)
        H = _matrix(m).to(x.device)
        if done == 1:
            torch.matmul(x.view(-1, m), H, out=free.view(-1, m))
        else:
            torch.matmul(H, x.view(-1, m, done), out=free.view(-1, m, done))
        x, free, other = free, other, free
        done *= m
    return x


@functools.cache
def _matrix(m: int) -> Tensor:
    """The symmetric Hadamard matrix of order m (Sylvester), over √m."""
    H = torch.ones(1, 1)
    while len(H) < m:
        H = torch.cat([torch.cat([H, H], dim=1), torch.cat([H, -H], dim=1)])
    return H / math.sqrt(m)


@functools.cache
def centroids(b: int) -> tuple[float, ...]:
    """The 2^b values that represent a standard normal with the least squared error, increasing (Lloyd, Max)."""
    half = [(i + 0.5) / 2 ** (b - 1) for i in range(2 ** (b - 1))]  # the positive ones; the law is symmetric
    change = 1.0
    while change > 1e-12:
        edges = [0.0, *((low + high) / 2 for low, high in itertools.pairwise(half)), math.inf]
        means = [_normal_mean(low, high) for low, high in itertools.pairwise(edges)]
        change = max(abs(new - old) for new, old in zip(means, half, strict=True))
        half = means
    return (*(-value for value in reversed(half)), *half)


def _normal_mean(low: float, high: float) -> float:
    """Mean of a standard normal between two positive numbers."""
    density = (math.exp(-(low**2) / 2) - math.exp(-(high**2) / 2)) / math.sqrt(2 * math.pi)
    return density / ((math.erfc(low / math.sqrt(2)) - math.erfc(high / math.sqrt(2))) / 2)
