"""FedVote: federated learning by voting on quantised weights (Yue, Jin, Wong & Dai), Algorithm 1.

Uplink d bits (binary) or 2 d (ternary), downlink 32 d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, receive, send
from fedsign.algorithms.latent import LatentOptimizer, check_optimizer, latent_optimizer
from fedsign.errors import ConfigError
from fedsign.options import Momentum, Positive, SignZero, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink
    from fedsign.config import Config


@options
class FedVote(Algorithm):
    """Clients train h of the weights φ(h) = tanh(a h) and send them rounded at random; the server counts the votes."""

    title: ClassVar[str] = "FedVote"

    levels: Literal[2, 3]  # w ∈ {−1, 1}, or {−1, 0, 1} (Section VI, (16))
    a: Positive
    p_min: Annotated[float, Field(gt=0, lt=0.5, description="a number in (0, 0.5)")]  # p_max = 1 − p_min
    vote: Literal["soft", "reputation"]  # Option I and II: equal weights, or λ_m ∝ ν_m
    beta: Momentum  # β of the credibility ν
    reference: Literal["literal", "nu_weighted", "honest_oracle"]  # whose vote it is that credible clients agree with
    cut_below_mean: bool  # λ_m = 0 for clients of less than the cohort's mean ν, as released
    optimizer: LatentOptimizer
    sign_zero: SignZero  # of a tied vote
    entropy_coding: bool

    def check(self, config: Config) -> None:
        """Binary weights need normalised activations, and credibilities need binary votes."""
        model = config.model
        if model.kind != "vector" and not model.normalised:
            raise ConfigError(
                f"model={model.name}: has no normalisation layers, and algorithm={self.name} needs them to scale the "
                "activations of quantised weights; use lenet5, vgg7 or another model that has them"
            )
        if self.vote == "reputation" and self.levels == 3:
            raise ConfigError("algorithm.levels=3: must be 2 with algorithm.vote=reputation, which counts binary votes")
        if self.vote == "soft" and (self.cut_below_mean or self.reference != "literal"):
            given = f"algorithm.reference={self.reference} algorithm.cut_below_mean={self.cut_below_mean}".lower()
            raise ConfigError(f"{given}: must be literal and false with algorithm.vote=soft, which weighs no one")
        check_optimizer(self.optimizer, config)

    def init(self, x: Tensor, layout: Layout) -> State:
        """As released: every tensor in units of its deviation, kept within ±(1 − 1e-3)."""
        w = x.clone()  # w̃
        for s in layout.segments[: layout.tensors]:
            w[s.start : s.stop] /= x[s.start : s.stop].std(correction=0).clamp(min=1e-12)
        w = w.clamp(-0.999, 0.999)
        return {"p": (1 + w) / 2, "hard": w.sign(), "sampled": w.sign()}

    def broadcast(self, server: State) -> Downlink:
        """p^{(k)}."""
        return send(p=server["p"])

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """Lines 4 to 11: τ steps on h, then stochastic rounding of w̃ = φ(h)."""
        from fedsign.codecs.codec import finite
        from fedsign.local.weight_maps import Tanh

        h = (2 * receive(downlink["p"]) - 1).atanh() / self.a  # h = φ^{-1}(2 p − 1)
        h = local.train(h, weights=Tanh(self.a), optimizer=latent_optimizer(self.optimizer)).y
        w = (self.a * finite(h)).tanh()  # w̃_m
        U = streams.uniform("mask", w.shape[1])
        w = 2.0 * ((1 + w) / 2 > U) - 1 if self.levels == 2 else w * (w.abs() > U)  # +1 w.p. (1 + w̃)/2, or (16)
        return {"w": self._codec().encode(w, streams)}, {}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """Lines 12 to 19. `hard` and `sampled` are the quantised models that are evaluated beside w̃."""
        if self.vote == "reputation":
            nu = server.get("nu", round.samples.new_ones(round.population).float())  # ν_m^{(0)} = 1
            w = self._codec().mean(uplink["w"], round.d, self._lambda(nu, round))
            credit = {"nu": self._credibility(nu, uplink["w"], round)}  # absent clients keep theirs
        else:
            w, credit = self._codec().mean(uplink["w"], round.d), {}
        p = ((1 + w) / 2).clamp(self.p_min, 1 - self.p_min)
        w, U = 2 * p - 1, round.streams.uniform("sampled", round.d)[0]
        if self.levels == 2:
            return {"p": p, "hard": self._vote(w, round), "sampled": 2.0 * (p > U) - 1} | credit
        return {"p": p, "hard": w.round(), "sampled": w.sign() * (w.abs() > U)}

    def models(self, server: State) -> dict[str, Tensor]:
        """w̃, its nearest level, and a draw of its levels."""
        hard = "binary" if self.levels == 2 else "ternary"
        return {"test": 2 * server["p"] - 1, hard: server["hard"], "sampled": server["sampled"]}

    def message(self, server: State, round: Round) -> Message:
        """Votes."""
        return {"w": self._codec()}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """d, or 2 d for ternary weights."""
        return layout.coded * (self.levels - 1)

    def _codec(self) -> Any:
        codec = codecs.Sign("plus") if self.levels == 2 else codecs.Ternary()
        return codecs.entropy_coded(codec, self.entropy_coding)

    def _vote(self, w: Tensor, round: Round) -> Tensor:
        """The sign of the mean vote w, ties as `sign_zero` says; weights add up to a tie but for their rounding."""
        return codecs.signs(w[None] * (w.abs() > 1e-5), self.sign_zero, round.streams)[0]

    def _lambda(self, nu: Tensor, round: Round) -> Tensor:
        """λ_m^{(k)} = ν_m^{(k)} / Σ ν^{(k)} over the cohort, ν of the rounds before this one."""
        nu = nu[round.clients]
        if self.cut_below_mean:
            nu = nu * (nu >= nu.mean().minimum(nu.max()))  # the mean of equal values may be rounded up
        weights = nu / nu.sum()
        attackers = weights.new_tensor([c in round.attackers for c in round.clients])  # in every round: a column
        round.log("attackers_weight", float(weights @ attackers))
        return weights

    def _credibility(self, nu: Tensor, votes: list[Tensor], round: Round) -> Tensor:
        """ν_m ← β ν_m + (1 − β) CR_m, CR_m the share of coordinates in which m agrees with the reference vote."""
        codec, new, counted = self._codec(), nu.clone(), votes
        if self.reference == "honest_oracle":
            counted = [row for row, c in zip(votes, round.clients, strict=True) if c not in round.attackers]
        weights = nu[round.clients] / nu[round.clients].sum() if self.reference == "nu_weighted" else None
        reference = self._vote(codec.mean(counted, round.d, weights), round) if counted else None
        for c, row in zip(round.clients, votes, strict=True):
            CR = 0.0 if reference is None else (codec.decode([row], round.d)[0] == reference).float().mean()
            new[c] = self.beta * nu[c] + (1 - self.beta) * CR
        return new
