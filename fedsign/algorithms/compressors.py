"""FedAvg with the update compressed after training: FedPAQ, TernGrad, top-k, DRIVE, EDEN, stochastic binarisation.

FedPAQ: Reisizadeh et al., AISTATS 2020, with QSGD (Alistarh et al., 2017); TernGrad: Wen et al., 2017; top-k: Aji and
Heafield, 2017; DRIVE and EDEN: Vargaftik et al., 2021 and 2022; "SignSGD" as in FedMRN (MM 2024). Downlink 32 d bits.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, receive
from fedsign.options import Fraction, Positive, QuantisationLevels, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink


@options
class Compressor(Algorithm):
    """x ← x + η_g Σ_i p_i C(y_i − x). No error is fed back, so clients keep nothing."""

    server_lr: Positive  # η_g
    weighting: Literal["uniform", "samples"]  # p_i = 1/n, or n_i / Σ n_j

    @abstractmethod
    def codec(self, layout: Layout) -> Any:
        """C."""

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """Train locally and send the compressed update."""
        x = receive(downlink["x"])
        u = local.train(x).y - x
        return {"u": self.codec(local.layout).encode(u, streams)}, {}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """Average the updates and step."""
        u = self.codec(round.layout).mean(uplink["u"], round.d, self.weights(round))
        return {"x": server["x"] + self.server_lr * u}

    def message(self, server: State, round: Round) -> Message:
        """C of the update."""
        return {"u": self.codec(round.layout)}

    def weights(self, round: Round) -> Tensor | None:
        """p_i."""
        return round.samples / round.samples.sum() if self.weighting == "samples" else None


@options
class FedPAQ(Compressor):
    """C = Q_s, QSGD: unbiased rounding of every |u_j| / ‖u‖ to one of s levels."""

    title: ClassVar[str] = "FedPAQ"

    levels: QuantisationLevels  # s
    norm: Literal["l2", "linf"]
    per_tensor: bool  # a norm per tensor, or one for the whole vector
    entropy_coding: bool

    def codec(self, layout: Layout) -> Any:
        """Q_s."""
        sizes = layout.sizes if self.per_tensor else None
        return codecs.entropy_coded(codecs.QSGD(self.levels, self.norm, sizes), self.entropy_coding)

    def uplink_bits_formula(self, layout: Layout) -> float:
        """d ⌈log2(2s+1)⌉ + 32 G, G the number of norms."""
        return self.codec(layout).unpadded_bits(layout.coded)


@options
class TernGrad(Compressor):
    """C(u) = s sign(u) Bernoulli(|u| / s), s = max |u| of every tensor: QSGD of one level and the ℓ∞ norm."""

    title: ClassVar[str] = "TernGrad"

    entropy_coding: bool

    def codec(self, layout: Layout) -> Any:
        """Two bits a symbol and 32 a tensor."""
        return codecs.entropy_coded(codecs.QSGD(1, "linf", layout.sizes), self.entropy_coding)

    def uplink_bits_formula(self, layout: Layout) -> float:
        """log2(3) d + 32 L: three symbols take two bits here, and log2(3) in FedMRN's count."""
        return math.log2(3) * layout.coded + 32 * layout.tensors


@options
class TopK(Compressor):
    """C(u) is the k = ratio d entries of largest magnitude."""

    title: ClassVar[str] = "Top-k"

    ratio: Fraction  # k / d

    def codec(self, layout: Layout) -> codecs.TopK:
        """Values in float32, and their indices in the cheapest of three forms."""
        return codecs.TopK(self.ratio, "shortest")

    def uplink_bits_formula(self, layout: Layout) -> float:
        """32 k: FedMRN leaves the indices out of its count. They are measured."""
        return 32 * self.codec(layout).kept(layout.coded)


@options
class Rotated(Compressor):
    """C(u) = S R^{-1} Q(R u), R a random rotation and Q a quantiser of b bits."""

    scale: Literal["unbiased", "mse"]  # S = ‖u‖² / ⟨Q(Ru), Ru⟩, or ⟨Q(Ru), Ru⟩ / ‖Q(Ru)‖²
    entropy_coding: bool

    @property
    def b(self) -> int:
        """Bits a coordinate."""
        return 1

    def codec(self, layout: Layout) -> Any:
        """Rotation in blocks of a power of two, nearest centroid of a standard normal."""
        return codecs.entropy_coded(codecs.Hadamard(self.b, self.scale), self.entropy_coding)

    def uplink_bits_formula(self, layout: Layout) -> float:
        """b d + 64, one scale and one seed: the papers' rotation pads to a power of two and does not count that."""
        return self.b * layout.coded + 64


@options
class Drive(Rotated):
    """Q is the sign."""

    title: ClassVar[str] = "DRIVE"


@options
class Eden(Rotated):
    """Q has 2^b Lloyd-Max centroids."""

    title: ClassVar[str] = "EDEN"

    bits: Literal[1, 2, 3, 4]

    @property
    def b(self) -> int:
        """Bits a coordinate."""
        return self.bits


@options
class SignUpdate(Compressor):
    """C(u) = ±a with P(+) = clip(1/2 + u/(2a), 0, 1) and a = c mean|u| in every tensor: "SignSGD" of FedMRN."""

    title: ClassVar[str] = "SignSGD"

    c: Positive
    entropy_coding: bool

    def codec(self, layout: Layout) -> Any:
        """A bit a coordinate and 32 a tensor."""
        return codecs.entropy_coded(codecs.StochasticSign(self.c, layout.sizes), self.entropy_coding)

    def uplink_bits_formula(self, layout: Layout) -> float:
        """d + 32 L."""
        return self.codec(layout).unpadded_bits(layout.coded)
