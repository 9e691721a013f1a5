"""From the trained variable to the effective weights and back: a few elementwise operations per row and step.

None keeps anything between `forward` and `backward`: rows may be trained in any order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedsign.local.training import Step


class Tanh:
    """φ(h) = tanh(a h), and its derivative (FedVote, (6))."""

    def __init__(self, a: float):
        self.a = a

    def forward(self, h: Tensor, row: int, step: Step) -> Tensor:
        """φ(h)."""
        return (self.a * h).tanh()

    def backward(self, h: Tensor, gradient: Tensor, row: int) -> Tensor:
        """Times a (1 − φ(h)²)."""
        return gradient * (self.a * (1 - (self.a * h).tanh().square()))


class MaskedNoise:
    """x + û with û the noise n times a mask, or u cut off at n (FedMRN, (6) to (10)); straight through in `backward`.

    Attributes:
        x: [d], frozen.
        n: the noise, [rows, d].
        signed: masks in {−1, 1} instead of {0, 1}.
        stochastic: draw masks as Bernoulli variables (SM); else they tell whether u and n have the same sign.
        progressive: mask an element with probability k/K in step k of K (PM); else all of them in every step.
    """

    def __init__(self, x: Tensor, n: Tensor, *, signed: bool, stochastic: bool, progressive: bool):
        self.x, self.n = x, n
        self.signed, self.stochastic, self.progressive = signed, stochastic, progressive

    def forward(self, u: Tensor, row: int, step: Step) -> Tensor:
        """x + û. One uniform draw U per element decides both: U < P masks it, and U < P p sets its mask to one."""
        n = self.n[row]
        ratio = u / n
        P = step.k / step.total if self.progressive else 1.0
        U = torch.rand(len(u), generator=step.generator, device=u.device)
        one = P * mask_probability(ratio, self.signed) > U if self.stochastic else ratio > 0
        mask = torch.where(one, 1.0, -1.0 if self.signed else 0.0)
        if P < 1:
            mask = torch.where(U < P, mask, ratio.clamp(-1.0 if self.signed else 0.0, 1.0))
        return torch.addcmul(self.x, n, mask)

    def backward(self, u: Tensor, gradient: Tensor, row: int) -> Tensor:
        """∂û/∂u is taken as 1, of the mask and of the cut."""
        return gradient


def mask_probability(ratio: Tensor, signed: bool) -> Tensor:
    """Probability that stochastic masking of u under noise n sets a mask to one, given u/n (FedMRN, (6) and (7))."""
    return ((1 + ratio) / 2 if signed else ratio).clamp(0, 1)


class BernoulliMask:
    """w ⊙ m with m ~ Bernoulli(σ(s)) (FedPM).

    Attributes:
        w: frozen weights, [d].
    """

    def __init__(self, w: Tensor):
        self.w = w

    def forward(self, s: Tensor, row: int, step: Step) -> Tensor:
        """A fresh mask in every step."""
        return self.w * (torch.rand(len(s), generator=step.generator, device=s.device) < s.sigmoid())

    def backward(self, s: Tensor, gradient: Tensor, row: int) -> Tensor:
        """As released: the sampling passes the gradient on times σ(s), before the derivative of σ."""
        theta = s.sigmoid()
        return gradient * self.w * theta * (theta * (1 - theta))


class ThresholdMask:
    """w ⊙ m with m = 1[s > 0], or 2·1[s > 0] − 1 where it is signed (FedMask, HideNseek).

    Attributes:
        w: frozen weights, [d].
        signed: masks in {−1, 1} instead of {0, 1}.
    """

    def __init__(self, w: Tensor, signed: bool):
        self.w, self.low = w, -1.0 if signed else 0.0

    def forward(self, s: Tensor, row: int, step: Step) -> Tensor:
        """w ⊙ m."""
        return self.w * torch.where(s > 0, 1.0, self.low)

    def backward(self, s: Tensor, gradient: Tensor, row: int) -> Tensor:
        """∂m/∂s is taken as 1."""
        return gradient * self.w


class Sparse:
    """The weights themselves, of which those outside a mask rest (FedSparsify).

    Attributes:
        mask: which weights are trained, boolean [d].
    """

    def __init__(self, mask: Tensor):
        self.mask = mask

    def forward(self, v: Tensor, row: int, step: Step) -> Tensor:
        """v, which is zero outside the mask from the start."""
        return v

    def backward(self, v: Tensor, gradient: Tensor, row: int) -> Tensor:
        """Zero outside the mask."""
        return gradient * self.mask
