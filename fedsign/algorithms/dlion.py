"""Distributed Lion (Liu et al., 2024), with its updates averaged or put to the vote.

Uplink d bits. Downlink 32 d (the model) if the workers are kept in step. If they are not, they receive the update
alone: d bits for a vote, d ⌈log2(n+1)⌉ + 32 for a mean of n signs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, receive, send
from fedsign.options import Momentum, NonNegative, Positive, SignZero, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink


@options
class DLion(Algorithm):
    """δ_i = Sign(β_1 m_i + (1−β_1) g_i), Δ = mean or sign of Σ δ_i, x_i ← x_i + ε (Δ − λ x_i); g_i points downhill."""

    title: ClassVar[str] = "D-Lion"

    aggregate: Literal["mean", "majority"]  # Avg and MaVo
    sync: bool  # False: a worker that is absent misses the update, and its x_i goes stale
    lr: Positive  # ε
    weight_decay: NonNegative  # λ
    beta_1: Momentum
    beta_2: Momentum
    sign_zero: SignZero
    entropy_coding: bool  # of the uplink

    @property
    def client_state(self) -> tuple[str, ...]:  # type: ignore[override]
        """m_i, and x_i where nobody sends it."""
        return ("m",) if self.sync else ("m", "x")

    def client_start(self, x: Tensor) -> State:
        """m_i = 0 and x_i = x_0, which all workers build from one seed."""
        return {"m": 0 * x} | ({} if self.sync else {"x": x})

    def init(self, x: Tensor, layout: Layout) -> State:
        """The model; without synchronisation the rows x_i [N, d], one row while all are equal."""
        return {"x": x if self.sync else x[None]}

    def broadcast(self, server: State) -> Downlink:
        """The model, or nothing."""
        return send(x=server["x"]) if self.sync else {}

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """Local SGD from the worker's model (one step is the original's gradient), then the sign."""
        x, m = receive(downlink["x"]) if self.sync else state["x"], state["m"]
        g = local.train(x).y - x
        delta = self.beta_1 * m + (1 - self.beta_1) * g  # δ_i, before Sign
        m = self.beta_2 * m + (1 - self.beta_2) * g
        local.log("zero_fraction", (delta == 0).float().mean(dim=1))
        return {"delta": self._codec().encode(delta, streams)}, state | {"m": m}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """Δ, and the models of those who receive it: the server can tell every x_i."""
        Delta = self._codec().mean(uplink["delta"], round.d)
        if self.aggregate == "majority":
            Delta = codecs.signs(Delta[None], self.sign_zero, round.streams)[0]
        if self.sync:
            return {"x": self.step(server["x"], Delta)}
        x, cohort = server["x"].expand(round.population, -1), round.samples.new_tensor(round.clients)
        x = x.index_copy(0, cohort, self.step(x[cohort], Delta))
        return {"x": x, "Delta": Delta, "n": Delta.new_tensor([len(cohort) if self.aggregate == "mean" else 1])}

    def step(self, x: Tensor, Delta: Tensor) -> Tensor:
        """x + ε (Δ − λ x), of one model or of several."""
        return x + self.lr * (Delta - self.weight_decay * x)

    def reply(self, server: State) -> Downlink:
        """Δ to those who took part: as Σ δ_i and n, or a vote alone."""
        if self.sync:
            return {}
        n = server["n"]
        votes = (n * server["Delta"]).round()  # Σ δ_i
        if self.sign_zero != "zero":
            votes = (n + votes) / 2  # of n signs, how many are +1
        message = {"Delta": self._votes(int(n)).encode(votes[None])[0]}
        return message | (send(n=n) if self.aggregate == "mean" else {})

    def keep(self, reply: Downlink, state: State) -> State:
        """x_i ← x_i + ε (Δ − λ x_i)."""
        n = int(receive(reply["n"])) if self.aggregate == "mean" else 1
        votes = self._votes(n).decode([reply["Delta"]], state["x"].shape[1])[0]
        if self.sign_zero != "zero":
            votes = 2 * votes - n
        return state | {"x": self.step(state["x"], votes / n)}

    def _votes(self, n: int) -> codecs.Integer:
        return codecs.Integer(-n if self.sign_zero == "zero" else 0, n)

    def models(self, server: State) -> dict[str, Tensor]:
        """The mean of the workers' models, absent ones included."""
        return {"test": server["x"] if self.sync else server["x"].mean(dim=0)}

    def message(self, server: State, round: Round) -> Message:
        """Signs."""
        return {"delta": self._codec()}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """d, or 2 d where Sign(0) = 0."""
        return layout.coded * (2 if self.sign_zero == "zero" else 1)

    def _codec(self) -> Any:
        return codecs.entropy_coded(codecs.sign(self.sign_zero), self.entropy_coding)
