"""FedPM and FedMask: masks over frozen random weights (Isik et al., ICLR 2023; Li et al., SenSys 2021).

Uplink d bits, downlink 32 d and the 64 bits of the seed of the weights.
"""

from __future__ import annotations

from math import e
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, receive, send
from fedsign.algorithms.latent import LatentOptimizer, check_optimizer, latent_optimizer
from fedsign.options import options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink
    from fedsign.config import Config
    from fedsign.local.training import WeightMap


@options
class FedPM(Algorithm):
    """The weights are w ⊙ m with w frozen and m ~ Bernoulli(θ); clients train the scores s = logit θ."""

    title: ClassVar[str] = "FedPM"

    eps: Annotated[float, Field(gt=0, lt=0.5, description="a number in (0, 0.5)")]  # ε: masks count as ε and 1 − ε
    optimizer: LatentOptimizer
    entropy_coding: bool

    def check(self, config: Config) -> None:
        """Refuse a local optimiser that would go unused. Raises ConfigError."""
        check_optimizer(self.optimizer, config)

    def init(self, x: Tensor, layout: Layout) -> State:
        """s ~ N(0, 1) and w = ±e/√fan_in; the initial model is but their seed."""
        from fedsign.codecs import seeds
        from fedsign.local.frozen import scores, signed_constants

        seed = seeds.of(x)
        theta = scores(seed, layout.coded, x.device).sigmoid()
        w = signed_constants(seed, e, layout, x.device)
        return {"theta": theta, "seed": seeds.to_bytes(seed), "w": w, "m": (theta > 0.5).float()}

    def broadcast(self, server: State) -> Downlink:
        """θ and the seed of w."""
        return send(theta=server["theta"]) | {"seed": server["seed"]}

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """Train s from logit θ, and send a mask."""
        from fedsign.codecs import seeds
        from fedsign.codecs.codec import finite
        from fedsign.local.frozen import signed_constants

        theta = receive(downlink["theta"])
        w = signed_constants(seeds.from_bytes(downlink["seed"]), e, local.layout, theta.device)
        s = local.train(theta.logit(), weights=self._map(w), optimizer=latent_optimizer(self.optimizer)).y
        return {"m": self._codec().encode(self._mask(finite(s), streams))}, {}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """θ = ε + (1 − 2ε) 1/n Σ m_i: the mode of a Beta posterior with a uniform prior in every round."""
        theta = self.eps + (1 - 2 * self.eps) * self._codec().mean(uplink["m"], round.d)
        return server | {"theta": theta, "m": self._evaluated(theta, round)}

    def models(self, server: State) -> dict[str, Tensor]:
        """w ⊙ m with one mask drawn from θ, as released."""
        return {"test": server["w"] * server["m"]}

    def message(self, server: State, round: Round) -> Message:
        """The bits of a mask, read as ±1."""
        return {"m": codecs.entropy_coded(codecs.Sign("plus"), self.entropy_coding)}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """d."""
        return layout.coded

    def _codec(self) -> Any:
        return codecs.entropy_coded(codecs.Mask(), self.entropy_coding)

    def _map(self, w: Tensor) -> WeightMap:
        from fedsign.local.weight_maps import BernoulliMask

        return BernoulliMask(w)

    def _mask(self, s: Tensor, streams: Streams) -> Tensor:
        return streams.uniform("mask", s.shape[1]) < s.sigmoid()

    def _evaluated(self, theta: Tensor, round: Round) -> Tensor:
        return (round.streams.uniform("mask", round.d)[0] < theta).float()


@options
class FedMask(FedPM):
    """The masks are 1[s > 0], on the clients and of the averaged mask (no client has a model of its own here)."""

    title: ClassVar[str] = "FedMask"

    def _map(self, w: Tensor) -> WeightMap:
        from fedsign.local.weight_maps import ThresholdMask

        return ThresholdMask(w, signed=False)

    def _mask(self, s: Tensor, streams: Streams) -> Tensor:
        return s > 0

    def _evaluated(self, theta: Tensor, round: Round) -> Tensor:
        return (theta > 0.5).float()
