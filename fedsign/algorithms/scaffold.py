"""SCAFFOLD, option II (Karimireddy et al., ICML 2020).

Uplink 64 d bits, downlink 64 d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, need_plain_sgd, receive, send
from fedsign.options import Positive, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink
    from fedsign.config import Config


@options
class Scaffold(Algorithm):
    """Control variates c_i and c = 1/N Σ c_i take the drift out of every local step."""

    title: ClassVar[str] = "SCAFFOLD"
    client_state: ClassVar[tuple[str, ...]] = ("c_i",)  # 0

    server_lr: Positive  # η_g

    def check(self, config: Config) -> None:
        """c_i is a mean gradient only after plain SGD."""
        need_plain_sgd(config)

    def init(self, x: Tensor, layout: Layout) -> State:
        """x and c = 0."""
        return {"x": x, "c": 0 * x}

    def broadcast(self, server: State) -> Downlink:
        """x and c."""
        return send(x=server["x"], c=server["c"])

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """K corrected steps; what they were on average becomes c_i."""
        x, c, c_i = receive(downlink["x"]), receive(downlink["c"]), state["c_i"]
        y = local.train(x, correction=c - c_i).y  # y ← y − η_l (g(y) − c_i + c)
        c_plus = c_i - c + (x - y) / (local.steps[:, None] * local.lr)  # option II, with each client's own K
        float32 = codecs.Float32()
        return {"Delta_y": float32.encode(y - x), "Delta_c": float32.encode(c_plus - c_i)}, {"c_i": c_plus}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """x ← x + η_g/n Σ Δy_i and c ← c + 1/N Σ Δc_i: by N, not by n."""
        Delta_y, Delta_c = (codecs.Float32().mean(uplink[part], round.d) for part in ("Delta_y", "Delta_c"))
        share = len(round.clients) / round.population
        return {"x": server["x"] + self.server_lr * Delta_y, "c": server["c"] + share * Delta_c}

    def message(self, server: State, round: Round) -> Message:
        """Δy_i and Δc_i in full."""
        return dict.fromkeys(("Delta_y", "Delta_c"), codecs.Float32())

    def uplink_bits_formula(self, layout: Layout) -> float:
        """64 d."""
        return 64 * layout.coded
