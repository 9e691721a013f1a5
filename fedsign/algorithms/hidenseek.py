"""HideNseek: signs of frozen random weights, pruned by the server before training (Vallapuram et al., 2022).

Uplink k bits, downlink 32 k and the 64 bits of the seed of the weights, k the number of weights that are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, receive, send
from fedsign.algorithms.latent import LatentOptimizer, check_optimizer, latent_optimizer
from fedsign.options import Momentum, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink
    from fedsign.config import Config


@options
class HideNseek(Algorithm):
    """The weights are w ⊙ m with w frozen, zero where it is pruned, and m = 2·1[s > 0] − 1; clients train s."""

    title: ClassVar[str] = "HideNseek"

    sparsity: Momentum  # share of the weights that is pruned, [0, 1)
    eps: Annotated[float, Field(gt=0, lt=0.5, description="a number in (0, 0.5)")]  # averaged masks within [ε, 1 − ε]
    optimizer: LatentOptimizer
    entropy_coding: bool

    def check(self, config: Config) -> None:
        """Refuse a local optimiser that would go unused. Raises ConfigError."""
        check_optimizer(self.optimizer, config)

    def init(self, x: Tensor, layout: Layout) -> State:
        """s ~ N(0, 1) and Kaiming-normal w; the initial model is but their seed."""
        from fedsign.codecs import seeds
        from fedsign.local.frozen import scores

        seed = seeds.of(x)
        w, keep = self._frozen(seed, layout, x)
        theta = scores(seed, len(keep), x.device).sigmoid()
        return {"theta": theta, "seed": seeds.to_bytes(seed), "w": w, "keep": keep}

    def broadcast(self, server: State) -> Downlink:
        """θ of the kept weights, and the seed, of which w and what is kept follow."""
        return send(theta=server["theta"]) | {"seed": server["seed"]}

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """Train s from logit θ, and send the masks of the kept weights."""
        from fedsign.codecs import seeds
        from fedsign.codecs.codec import finite
        from fedsign.local.weight_maps import ThresholdMask

        theta = receive(downlink["theta"])
        w, keep = self._frozen(seeds.from_bytes(downlink["seed"]), local.layout, theta)
        s = (0 * w).index_copy(0, keep, theta.logit())
        s = local.train(s, weights=ThresholdMask(w, signed=True), optimizer=latent_optimizer(self.optimizer)).y
        return {"m": self._codec().encode(finite(s[:, keep]) > 0)}, {}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """θ = ε + (1 − 2ε) 1/n Σ 1[s_i > 0]."""
        theta = self._codec().mean(uplink["m"], len(server["keep"]))
        return server | {"theta": self.eps + (1 - 2 * self.eps) * theta}

    def models(self, server: State) -> dict[str, Tensor]:
        """w ⊙ m of the averaged mask."""
        m = 2.0 * (server["theta"] > 0.5) - 1
        return {"test": (0 * server["w"]).index_copy(0, server["keep"], server["w"][server["keep"]] * m)}

    def message(self, server: State, round: Round) -> Message:
        """The bits of the mask, read as ±1."""
        return {"m": codecs.entropy_coded(codecs.Sign("plus"), self.entropy_coding)}

    def values(self, layout: Layout) -> int:
        """k."""
        return max(1, layout.coded - int(self.sparsity * layout.coded))

    def uplink_bits_formula(self, layout: Layout) -> float:
        """k."""
        return self.values(layout)

    def _codec(self) -> Any:
        return codecs.entropy_coded(codecs.Mask(), self.entropy_coding)

    def _frozen(self, seed: int, layout: Layout, like: Tensor) -> tuple[Tensor, Tensor]:
        """w [d], zero where pruned, and the indices [k] of the largest |w| in units of its tensor's deviation."""
        from fedsign.codecs.sparse import largest
        from fedsign.local.frozen import normals

        w, z = normals(seed, layout, like.device)
        keep = largest(z[None], self.values(layout))[0]
        return (0 * w).index_copy(0, keep, w[keep]), keep
