"""FedLion: Lion on every client, started from the server's momentum (Tang & Chang, ICASSP 2024).

Uplink d ⌈log2(2E+1)⌉ + 32 d bits with E local steps, downlink 64 d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, receive, send
from fedsign.options import Momentum, Positive, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink


@options
class FedLion(Algorithm):
    """E Lion steps on x and m; x ← x − γ 1/n Σ Δ_i with Δ_i the sum of the client's signs, and m ← 1/n Σ m_i."""

    title: ClassVar[str] = "FedLion"

    beta_1: Momentum
    beta_2: Momentum
    lr: Positive  # γ, of the local steps; local.lr is not used
    entropy_coding: bool  # of the integers

    def init(self, x: Tensor, layout: Layout) -> State:
        """x_0 and m = 0."""
        return {"x": x, "m": 0 * x}

    def broadcast(self, server: State) -> Downlink:
        """x and m."""
        return send(x=server["x"], m=server["m"])

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """y ← y − γ Sign(β_1 m + (1−β_1) g), m ← β_2 m + (1−β_2) g, E times; Δ_i = (x − y)/γ ∈ {−E..E}^d."""
        from fedsign.local.optimizers import Lion

        x, m = receive(downlink["x"]), receive(downlink["m"])
        lion = Lion(beta_1=self.beta_1, beta_2=self.beta_2, lr=self.lr, start={"m": m}, counted=True)
        final = local.train(x, optimizer=lion).optimizer
        Delta = codecs.encode_each([self._codec(E) for E in local.step_counts], final["count"])
        return {"Delta": Delta, "m": codecs.Float32().encode(final["m"])}, {}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """Integers beyond a client's own E are refused."""
        Delta = codecs.mean_of_each([self._codec(E) for E in round.steps.tolist()], uplink["Delta"], round.d)
        m = codecs.Float32().mean(uplink["m"], round.d)
        return {"x": server["x"] - self.lr * Delta, "m": m}

    def message(self, server: State, round: Round) -> Message:
        """Sums of E signs, and m in full."""
        return {"Delta": [self._codec(E) for E in round.steps.tolist()], "m": codecs.Float32()}

    def uplink_bits_formula(self, layout: Layout, E: int = 1) -> float:
        """d ⌈log2(2E+1)⌉ + 32 d."""
        return layout.coded * ((2 * E).bit_length() + 32)

    def cohort_bits_formula(self, layout: Layout, steps: Tensor) -> float:
        """Every client by its own E."""
        return sum(self.uplink_bits_formula(layout, E) for E in steps.tolist())

    def _codec(self, E: int) -> Any:
        """Of a sum of E signs."""
        return codecs.entropy_coded(codecs.Integer(-E, E), self.entropy_coding)
