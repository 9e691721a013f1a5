"""FedAvg (McMahan et al., AISTATS 2017), in its delta form with a server learning rate.

Uplink 32 d bits, downlink 32 d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from fedsign import codecs
from fedsign.algorithms.base import receive
from fedsign.errors import ConfigError
from fedsign.options import Positive, options
from fedsign.robust.rule import Aggregated

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink
    from fedsign.config import Config


@options
class FedAvg(Aggregated):
    """x ← x − η_g Σ_i p_i Δ_i with Δ_i = x − y_i^K, or x ← x − η_g Agg(Δ_1, ..., Δ_n)."""

    title: ClassVar[str] = "FedAvg"

    server_lr: Positive  # η_g
    weighting: Literal["uniform", "samples"]  # p_i = 1/n, or n_i / Σ n_j

    def check(self, config: Config) -> None:
        """Robust rules know no weights."""
        super().check(config)
        if self.weighting == "samples" and self.aggregator != "mean":
            rule = self.aggregator
            raise ConfigError(f"algorithm.weighting=samples: must be uniform with algorithm.aggregator={rule}")

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """Train locally and send the model difference."""
        x = receive(downlink["x"])
        Delta = x - local.train(x).y
        return {"Delta": codecs.Float32().encode(Delta)}, {}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """Combine the differences and step."""
        Delta = self.combine(uplink["Delta"], codecs.Float32(), round)
        return {"x": server["x"] - self.server_lr * Delta}

    def weights(self, round: Round) -> Tensor | None:
        """p_i."""
        return round.samples / round.samples.sum() if self.weighting == "samples" else None

    def message(self, server: State, round: Round) -> Message:
        """Δ_i in full."""
        return {"Delta": codecs.Float32()}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """32 d."""
        return 32 * layout.coded
