"""FedSparsify: progressive magnitude pruning of the model (Stripelis et al., 2022).

Uplink and downlink 32 bits for each of the weights that are left, and their places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from fedsign import codecs
from fedsign.algorithms.base import Algorithm
from fedsign.options import Momentum, Positive, PositiveInt, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink


@options
class FedSparsify(Algorithm):
    """Weights of little magnitude are pruned, over all tensors at once; what is pruned in the global model stays so."""

    title: ClassVar[str] = "FedSparsify"

    sparsity: Momentum  # s_f, the share that is pruned in the end, [0, 1)
    schedule: Literal["constant", "polynomial"]  # s_f from the first round, or s_t from 0 to s_f in the last
    exponent: Positive  # q
    frequency: PositiveInt  # F: the sparsity changes every F rounds
    rounds: PositiveInt  # T
    prune: Literal["client", "server"]  # after local training, or after averaging
    weighting: Literal["uniform", "samples"]

    def broadcast(self, server: State) -> Downlink:
        """The model, zeros left out."""
        x = server["x"]
        return {"x": _sparse(int(x.count_nonzero()), len(x)).encode(x[None])[0]}

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """Train the weights that are left; prune by magnitude; send the model."""
        from fedsign.local.weight_maps import Sparse

        t, d, row = streams.round, local.layout.coded, downlink["x"]
        x = _sparse(_kept_in(len(row), d), d).decode([row], d)[0]
        pruned = t > 1 and self._sparsity(t - 1) > 0  # zeros are weights like any other until something is pruned
        y = local.train(x, weights=Sparse(x != 0) if pruned else None).y
        return {"y": self._codec(t, x).encode(y)}, {}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """Average the models, and prune the average if that is the server's part."""
        x = self._codec(round.t, server["x"]).mean(uplink["y"], round.d, self.weights(round))
        if self.prune == "server":
            largest = _sparse(self._left(round.t, round.d), round.d)
            x = largest.decode(largest.encode(x[None]), round.d)[0]
        round.log("density", float(x.count_nonzero()) / round.d)
        return {"x": x}

    def weights(self, round: Round) -> Tensor | None:
        """1/n, or n_i / Σ n_j."""
        return round.samples / round.samples.sum() if self.weighting == "samples" else None

    def message(self, server: State, round: Round) -> Message:
        """The weights that are left."""
        return {"y": self._codec(round.t, server["x"])}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """32 k + min(k ⌈log2 d⌉, d), the mean over the T rounds."""
        d, T = layout.coded, self.rounds
        first = 1 if self.prune == "client" else 0  # the server prunes after the first round
        sent = [self._left(t, d) if t else d for t in range(first, first + T)]
        return sum(_sparse(k, d).unpadded_bits(d) for k in sent) / T

    def _left(self, t: int, d: int) -> int:
        """How many of d weights the schedule leaves in round t."""
        return max(1, d - int(self._sparsity(t) * d))

    def _sparsity(self, t: int) -> float:
        """s_t = s_f + (s_0 − s_f) (1 − (F⌊t/F⌋ − t_0)/(T − t_0))^q with s_0 = 0 and t_0 = 1."""
        if self.schedule == "constant" or t >= self.rounds:
            return self.sparsity
        done = max(0, self.frequency * (t // self.frequency) - 1) / (self.rounds - 1)
        return self.sparsity - self.sparsity * (1 - done) ** self.exponent

    def _codec(self, t: int, x: Tensor) -> codecs.TopK:
        """What a client sends in round t, given the model x that it received: both sides know how much that is."""
        if self.prune == "client":
            return _sparse(self._left(t, len(x)), len(x))
        pruned = t > 1 and self._sparsity(t - 1) > 0
        return _sparse(int(x.count_nonzero()) if pruned else len(x), len(x))


def _sparse(k: int, d: int) -> codecs.TopK:
    """k of d values with the shorter of two codings of their places."""
    return codecs.TopK((k + 0.5) / d, "shorter")


def _kept_in(length: int, d: int) -> int:
    """How many of d values a row of that many bytes holds: the inverse of `_sparse(k, d).length(d)`."""
    width = (d - 1).bit_length()
    with_bitmap = (length - -(-d // 8)) // 4
    return with_bitmap if with_bitmap * width > d else 8 * length // (32 + width)
