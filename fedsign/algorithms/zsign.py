"""z-SignFedAvg: stochastic signs by noise of the z-distribution (Tang, Wang & Chang), Algorithm 1.

Uplink d bits, downlink 32 d.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, need_plain_sgd, receive
from fedsign.options import NonNegative, Positive, PositiveOrInf, SignZero, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink
    from fedsign.config import Config


@options
class ZSign(Algorithm):
    """Sign of the noisy accumulated gradient; in expectation and for σ large, the gradient itself."""

    title: ClassVar[str] = "z-SignFedAvg"

    z: PositiveOrInf  # any real z > 0, or inf
    sigma: NonNegative  # σ
    server_lr: Positive  # η; the step on every coordinate is η γ, γ the local learning rate
    noise_scale: Literal["gradient", "update"]  # units of σ: of (x − y)/γ as in the paper, or of x − y
    sign_zero: SignZero
    entropy_coding: bool

    def check(self, config: Config) -> None:
        """The message is a sum of gradients only after plain SGD."""
        need_plain_sgd(config)

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """E local steps, then Sign((x_{t−1} − x_{t−1,E}^i)/γ + σ ξ_z)."""
        x = receive(downlink["x"])
        v = x - local.train(x).y
        if self.noise_scale == "gradient":
            v = v / local.lr
        if self.sigma > 0:
            v = v + self.sigma * z_noise(self.z, v.shape[1], streams)
        local.log("zero_fraction", (v == 0).float().mean(dim=1))
        return {"Delta": self._codec().encode(v, streams)}, {}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """x_t = x_{t−1} − η γ 1/n Σ Δ_{t−1}^i."""
        Delta = self._codec().mean(uplink["Delta"], round.d)
        round.log("server_step", self.server_lr * round.lr)
        return {"x": server["x"] - self.server_lr * round.lr * Delta}

    def message(self, server: State, round: Round) -> Message:
        """Signs."""
        return {"Delta": self._codec()}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """d, or 2 d where Sign(0) = 0."""
        return layout.coded * (2 if self.sign_zero == "zero" else 1)

    def _codec(self) -> Any:
        return codecs.entropy_coded(codecs.sign(self.sign_zero), self.entropy_coding)


def z_noise(z: float, d: int, streams: Streams) -> Tensor:
    """Draws ξ_z [n, d] with density p_z(t) = exp(−|t|^{2z}/2) / (2 η_z) (Definition 1).

    ξ_z = U (2G)^{1/(2z)} with U uniform on [−1, 1] and G ~ Gamma(1 + 1/(2z)): exact for any real z > 0, and without
    the underflow of the textbook sampler ±(2 Gamma(1/(2z)))^{1/(2z)}. z = 1 is the standard normal and z = ∞ is U.
    """
    if z == 1:
        return streams.normal("z_noise", d)
    U = 2 * streams.uniform("z_noise", d) - 1
    if math.isinf(z):
        return U
    radius = (2 * streams.gamma("z_noise_radius", d, 1 + 1 / (2 * z))) ** (1 / (2 * z))
    return U * radius.clamp(max=1e30)  # beyond float32 for tiny z; the signs are the same
