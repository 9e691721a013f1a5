"""EF-SignSGD with momentum, in the three places where it has been put.

Karimireddy et al., ICML 2019 (worker); Vogels et al., NeurIPS 2019 (server); Zheng et al., NeurIPS 2019 (block). One
stochastic gradient per client and round; no local steps. Uplink d + 32 L bits, downlink 32 d, of `block` d + 32 L.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, receive, send
from fedsign.options import Momentum, Positive, SignZero, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink


@options
class EFSignSGD(Algorithm):
    """Scaled signs C(p) of the gradient and the error before, tensor by tensor; e ← p − C(p)."""

    title: ClassVar[str] = "EF-SignSGDwM"

    placement: Literal["server", "worker", "block"]
    momentum: Momentum  # μ
    server_lr: Positive  # γ
    sign_zero: SignZero
    entropy_coding: bool

    @property
    def client_state(self) -> tuple[str, ...]:  # type: ignore[override]
        """The error e, the momentum m of a worker, and its model x where the server sends steps."""
        return {"server": ("e",), "worker": ("e", "m"), "block": ("e", "m", "x")}[self.placement]

    def init(self, x: Tensor, layout: Layout) -> State:
        """x and what the server keeps beside it: its momentum m = 0, or its own error e = 0."""
        return {"x": x} | {"server": {"m": 0 * x}, "worker": {}, "block": {"e": 0 * x}}[self.placement]

    def broadcast(self, server: State) -> Downlink:
        """x; or the step that led to it, as encoded, where every client has the x before."""
        return {"step": server["step"]} if "step" in server else send(x=server["x"])

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """One stochastic gradient g; the codec takes it with the error before."""
        codec, d = self._codec(local.layout), local.layout.coded
        if "step" in downlink:
            x = state["x"] - self.server_lr * codec.decode([downlink["step"]], d)
        else:
            x = receive(downlink["x"])
        g = local.gradient(x)
        m = self.momentum * state.get("m", 0) + g
        if self.placement == "server":
            p = g + state["e"]
        elif self.placement == "worker":
            p = self.server_lr * m + state["e"]  # e is in units of x
        else:
            p = g + self.momentum * m + state["e"]  # γ is constant, so e's factor γ_{t−1}/γ_t is 1
        sent = codec.encode(p, streams)
        return {"p": sent}, {"e": p - codec.decode(sent, d), "m": m, "x": x.expand_as(g)}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """The mean, with the momentum or the error that the server keeps."""
        x, codec = server["x"], self._codec(round.layout)
        p = codec.mean(uplink["p"], round.d)
        if self.placement == "worker":
            return {"x": x - p}
        if self.placement == "server":
            m = self.momentum * server["m"] + p
            return {"x": x - self.server_lr * m, "m": m}
        p = p + server["e"]
        (step,) = codec.encode(p[None], round.streams)
        q = codec.decode([step], round.d)[0]
        known = len(round.clients) == round.population  # to all: nobody will miss this step
        return {"x": x - self.server_lr * q, "e": p - q} | ({"step": step} if known else {})

    def message(self, server: State, round: Round) -> Message:
        """C(p_i)."""
        return {"p": self._codec(round.layout)}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """d + 32 L, or 2 d + 32 L where Sign(0) = 0."""
        return self._codec(layout).unpadded_bits(layout.coded)

    def _codec(self, layout: Layout) -> Any:
        return codecs.entropy_coded(codecs.ScaledSign(self.sign_zero, layout.sizes), self.entropy_coding)
