"""Masked random noise: of n ⊙ m with n = G(s), the seed s and the mask m are sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedsign.codecs import seeds
from fedsign.codecs.codec import Codec, finite, naming
from fedsign.codecs.mask import Mask
from fedsign.local.streams import Streams
from fedsign.local.weight_maps import mask_probability
from fedsign.randomness import generator


class MaskedNoise(Codec):
    """Noise n = G(s) times a mask, of which the seed s and the mask are sent: 64 + d bits, padded to a byte.

    Attributes:
        signed: whether the mask is in {−1, 1} instead of {0, 1}.
        law: ``uniform`` on [−α, α], ``gaussian`` of deviation α, or ``bernoulli``, ±α with equal probability.
        scale: α.
    """

    k = 1

    def __init__(self, signed: bool, law: Literal["uniform", "gaussian", "bernoulli"], scale: float):
        self.signed, self.law, self.scale = signed, law, scale

    def length(self, d: int) -> int:
        """8 + ceil(d / 8) bytes."""
        return seeds.LENGTH + Mask().length(d)

    def noise(self, s: Sequence[int], d: int, device: torch.device) -> Tensor:
        """G(s) [n, d], at least 1e-8 in magnitude; the same on every device: Philox on the host, keyed with s."""
        rows = []
        for seed in s:
            rng = generator(seed, "masked noise")
            if self.law == "gaussian":
                row = rng.standard_normal(d, dtype=np.float32)
            elif self.law == "uniform":
                row = 2 * rng.random(d, dtype=np.float32) - 1
            else:
                row = 2 * np.unpackbits(np.frombuffer(rng.bytes(-(-d // 8)), np.uint8), count=d).astype(np.float32) - 1
            rows.append(torch.from_numpy(row))
        n = self.scale * torch.stack(rows).to(device)
        return torch.where(n.abs() < 1e-8, 1e-8, n)

    def encode(self, u: Tensor, s: Sequence[int], stochastic: bool, streams: Streams) -> list[Tensor]:
        """Rows of seeds and masks that stand for the updates u [n, d] under the noise of seeds s.

        The mask is one, and not zero or minus one, with probability clip(u/n, 0, 1), or clip((1 + u/n)/2, 0, 1) where
        it is signed; not `stochastic`, where u and n have the same sign. Raises PayloadError if a value is not finite.
        """
        d = u.shape[1]
        ratio = finite(u) / self.noise(s, d, u.device)
        one = streams.uniform("mask", d) < mask_probability(ratio, self.signed) if stochastic else ratio > 0
        rows = Mask().encode(one)
        return [torch.cat([seeds.to_bytes(seed).to(u.device), row]) for seed, row in zip(s, rows, strict=True)]

    def write(self, x: Tensor, streams: Streams) -> list[Tensor]:
        """Rows of fresh seeds and of masks that follow the signs of x [n, d]. Raises PayloadError as `encode`."""
        return self.encode(x, seeds.fresh(streams), False, streams)

    def decode(self, rows: list[Tensor], d: int) -> Tensor:
        """The masked noise [n, d]. Raises PayloadError on a wrong length, a negative seed or a set padding bit."""
        data = self.stacked(rows, d)
        mask = Mask().decode([row[seeds.LENGTH :].contiguous() for row in data], d)
        s = []
        for i, row in enumerate(data):
            with naming(i):
                s.append(seeds.from_bytes(row[: seeds.LENGTH]))
        n = self.noise(s, d, data.device)
        return n * (2 * mask - 1 if self.signed else mask)
