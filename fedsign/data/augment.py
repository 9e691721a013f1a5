"""Augmentation of a batch on the device, in the order of FedDyn's and FedSMU's code: flip, then pad and crop."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def flip_and_crop(x: Tensor, padding: int, crop_probability: float, rng: np.random.Generator) -> Tensor:
    """Flip each image with probability 1/2, then crop it out of its zero-padded self with `crop_probability`.

    Args:
        x: normalised images [B, H, W, C]; zero is then the channel mean.
        padding: zero pixels added on each side before the crop.
        crop_probability: chance that an image is cropped at random rather than left in place.
        rng: the client's stream; draws are made on the host, so that every device sees the same.

    Returns:
        Images [B, H, W, C].
    """
    b, h, w, _ = x.shape
    flip = _on(rng.random(b) < 0.5, x)
    x = torch.where(flip[:, None, None, None], x.flip(2), x)
    if padding == 0:
        return x
    offset = rng.integers(0, 2 * padding + 1, size=(2, b))
    offset[:, rng.random(b) >= crop_probability] = padding
    padded = torch.nn.functional.pad(x, (0, 0, padding, padding, padding, padding))
    rows = _on(offset[0][:, None] + np.arange(h), x)
    columns = _on(offset[1][:, None] + np.arange(w), x)
    image = torch.arange(b, device=x.device)
    return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]]


def _on(array: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(like.device)
