"""Fed-LocalLion and Fed-GlobalLion: where else Lion could go (Lu et al., ICML 2025, Appendix D, Algorithms 3 and 4).

Uplink 32 d bits, downlink 32 d, both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, receive
from fedsign.options import Momentum, NonNegative, Positive, SignZero, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink


@options
class FedLocalLion(Algorithm):
    """Algorithm 3: after its K SGD steps every client takes one Lion step on its own model."""

    title: ClassVar[str] = "Fed-LocalLion"
    client_state: ClassVar[tuple[str, ...]] = ("m",)  # m_0^i = 0

    beta_1: Momentum
    beta_2: Momentum
    gamma_1: Positive
    gamma_2: NonNegative
    server_lr: Positive  # η_g
    sign_zero: SignZero

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """Local SGD, one Lion step, and the difference in full."""
        x, m = receive(downlink["x"]), state["m"]
        y = local.train(x).y  # y_{t,K}^i
        g = y - x  # g_t^i
        u = codecs.signs(self.beta_1 * m + (1 - self.beta_1) * g, self.sign_zero, streams)  # u_t^i
        m = self.beta_2 * m + (1 - self.beta_2) * g  # m_t^i
        y = y + self.gamma_1 * (u - self.gamma_2 * y)
        return {"Delta": codecs.Float32().encode(y - x)}, {"m": m}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """x_{t+1} = x_t + η_g 1/n Σ Δ_t^i."""
        return {"x": server["x"] + self.server_lr * codecs.Float32().mean(uplink["Delta"], round.d)}

    def message(self, server: State, round: Round) -> Message:
        """Δ_t^i in full."""
        return {"Delta": codecs.Float32()}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """32 d."""
        return 32 * layout.coded


@options
class FedGlobalLion(Algorithm):
    """Algorithm 4: the server runs Lion on the mean update."""

    title: ClassVar[str] = "Fed-GlobalLion"

    beta_1: Momentum
    beta_2: Momentum
    gamma_1: Positive
    gamma_2: NonNegative
    sign_zero: SignZero

    def init(self, x: Tensor, layout: Layout) -> State:
        """x_1 and M_0 = 0."""
        return {"x": x, "M": 0 * x}

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """Local SGD and the difference in full."""
        x = receive(downlink["x"])
        g = local.train(x).y - x  # g_t^i
        return {"g": codecs.Float32().encode(g)}, {}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """Lion on G_t = 1/n Σ g_t^i."""
        x, M = server["x"], server["M"]
        G = codecs.Float32().mean(uplink["g"], round.d)  # G_t
        U = self.beta_1 * M + (1 - self.beta_1) * G
        U = codecs.signs(U[None], self.sign_zero, round.streams)[0]  # U_t
        M = self.beta_2 * M + (1 - self.beta_2) * G  # M_t
        return {"x": x + self.gamma_1 * (U - self.gamma_2 * x), "M": M}

    def message(self, server: State, round: Round) -> Message:
        """g_t^i in full."""
        return {"g": codecs.Float32()}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """32 d."""
        return 32 * layout.coded
