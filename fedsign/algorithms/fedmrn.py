"""FedMRN: masked random noise as model updates (Li et al., ACM MM 2024), Algorithm 1.

Uplink d + 64 bits (a mask and a seed), downlink 32 d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, receive
from fedsign.options import Positive, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink


@options
class FedMRN(Algorithm):
    """Clients learn which elements of their noise G(s) make up a good update, and send the mask and the seed s."""

    title: ClassVar[str] = "FedMRN"

    mask: Literal["binary", "signed"]  # m ∈ {0, 1}^d, or {−1, 1}^d (FedMRNS)
    noise: Literal["uniform", "gaussian", "bernoulli"]  # G: on [−α, α], N(0, α²), ±α
    noise_scale: Positive | None  # α; null is the paper's for this kind of mask
    stochastic_masking: bool  # SM, (6) and (7); false: where u and n have the same sign (DM)
    progressive_masking: bool  # PM, (10); false: all elements are masked in every step
    after_training: bool  # train u without masks and mask it once ("FedAvg w. SM", Section 5.4)
    entropy_coding: bool

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """Lines 11 to 20: train u from zero under progressive stochastic masking, then draw the mask to send."""
        from fedsign.codecs import seeds
        from fedsign.local.weight_maps import MaskedNoise

        x = receive(downlink["x"])
        s = seeds.fresh(streams)  # s_k^t
        if self.after_training:
            u = local.train(x).y - x
        else:
            weights = MaskedNoise(
                x,
                self._noise().noise(s, len(x), x.device),  # G(s_k^t)
                signed=self.mask == "signed",
                stochastic=self.stochastic_masking,
                progressive=self.progressive_masking,
            )
            u = local.train(0 * x, weights=weights).y
        return {"m": self._codec().encode(u, s, self.stochastic_masking, streams)}, {}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """w^{t+1} = w^t + Σ p'_k G(s_k^t) ⊙ m_k^t, (5); the noise is drawn again from the seeds."""
        return {"x": server["x"] + self._codec().mean(uplink["m"], round.d, self.weights(round))}

    def weights(self, round: Round) -> Tensor:
        """p'_k, the share of client k in the samples of the cohort."""
        return round.samples / round.samples.sum()

    def message(self, server: State, round: Round) -> Message:
        """Masked noise; an attacker draws a seed of its own."""
        return {"m": self._codec()}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """d + 64."""
        return layout.coded + 64

    def _codec(self) -> Any:
        return codecs.entropy_coded(self._noise(), self.entropy_coding)

    def _noise(self) -> codecs.MaskedNoise:
        alpha = self.noise_scale or {"binary": 1e-2, "signed": 5e-3}[self.mask]
        return codecs.MaskedNoise(self.mask == "signed", self.noise, alpha)
