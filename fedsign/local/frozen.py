"""Random weights that are never trained and never sent: both sides draw them from a seed, on the host."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor

from fedsign.models.parameters import Layout
from fedsign.randomness import generator


def signed_constants(seed: int, gain: float, layout: Layout, device: torch.device) -> Tensor:
    """The coded part [d] with every weight ±gain/√fan_in, the signs fair coins."""
    d = layout.coded
    packed = np.frombuffer(generator(seed, "frozen signs").bytes(-(-d // 8)), np.uint8)
    signs = 2 * np.unpackbits(packed, count=d).astype(np.float32) - 1
    return torch.from_numpy(signs * (gain * _scales(layout))).to(device)


def normals(seed: int, layout: Layout, device: torch.device) -> tuple[Tensor, Tensor]:
    """Kaiming-normal weights [d], N(0, 2/fan_in), and these in units of their deviation."""
    z = generator(seed, "frozen weights").standard_normal(layout.coded, dtype=np.float32)
    return torch.from_numpy(z * (np.float32(2**0.5) * _scales(layout))).to(device), torch.from_numpy(z).to(device)


def scores(seed: int, d: int, device: torch.device) -> Tensor:
    """Standard normal scores [d] to start from, the same on every device."""
    return torch.from_numpy(generator(seed, "scores").standard_normal(d, dtype=np.float32)).to(device)


def _scales(layout: Layout) -> np.ndarray:
    """1/√fan_in per coordinate; a bias has the fan-in of its layer's weights, a lone vector its own length."""
    coded = layout.segments[: layout.tensors]
    weights = {s.name.rpartition(".")[0]: s.shape for s in coded if len(s.shape) >= 2}
    scales = np.empty(layout.coded, dtype=np.float32)
    for s in coded:
        shape = s.shape if len(s.shape) >= 2 else weights.get(s.name.rpartition(".")[0], (1, *s.shape))
        scales[s.start : s.stop] = prod(shape[1:]) ** -0.5
    return scales
