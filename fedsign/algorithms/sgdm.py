"""Distributed SGD with momentum on the server: the uncompressed baseline of the one-gradient methods ("SGDwM").

Uplink 32 d bits, downlink 32 d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fedsign import codecs
from fedsign.algorithms.base import dropped, receive
from fedsign.options import Momentum, Positive, PositiveInt, options
from fedsign.robust.rule import Aggregated

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink


@options
class SGDM(Aggregated):
    """m ← μ m + 1/n Σ g_i (heavy ball), or Agg(g_1, ..., g_n) instead of the mean; x ← x − γ m."""

    title: ClassVar[str] = "SGDwM"

    server_lr: Positive  # γ,
    server_lr_drops: tuple[PositiveInt, ...]  # a tenth of it after each of these rounds
    momentum: Momentum  # μ

    def init(self, x: Tensor, layout: Layout) -> State:
        """x_0 and m = 0."""
        return {"x": x, "m": 0 * x}

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """One stochastic gradient, in full."""
        g = local.gradient(receive(downlink["x"]))
        return {"g": codecs.Float32().encode(g)}, {}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """Momentum and step."""
        m = self.momentum * server["m"] + self.combine(uplink["g"], codecs.Float32(), round)
        gamma = dropped(self.server_lr, self.server_lr_drops, round.t)
        return {"x": server["x"] - gamma * m, "m": m}

    def message(self, server: State, round: Round) -> Message:
        """g_i in full."""
        return {"g": codecs.Float32()}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """32 d."""
        return 32 * layout.coded
