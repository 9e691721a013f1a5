"""What a method is: a frozen dataclass of hyper-parameters with three small pure methods.

State goes in and comes out; nothing is kept on the object. Tensors are [d] on the server and [n, d] on the clients,
n being the clients at hand and d the coded part of the flat vector. The dense tail is none of a method's business:
it is trained, sent in full precision and averaged for every method alike.

An algorithm file imports no torch: its formulas are arithmetic on tensors it is given, so that its hyper-parameters
are validated before torch is loaded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedsign import codecs
from fedsign.errors import ConfigError
from fedsign.options import Codes, options

if TYPE_CHECKING:
    from torch import Tensor as Tensor

    from fedsign.codecs import Codec as Codec
    from fedsign.config import Config
    from fedsign.local.streams import Streams as Streams
    from fedsign.local.training import LocalTraining as LocalTraining
    from fedsign.models.parameters import Layout as Layout

    State = dict[str, Tensor]
    Downlink = dict[str, Tensor]  # message part to its bytes, uint8 [length]: the same for every client
    Uplink = dict[str, list[Tensor]]  # message part to one row of bytes per client, in the order of the cohort
    Message = dict[str, Codec | Sequence[Codec]]  # message part to its codec, or to one codec per client


@dataclass(frozen=True)
class Round:
    """What the server knows of a round.

    Attributes:
        t: the round, from 1.
        clients: ids of the cohort, n of them.
        samples: training samples of each, int64 [n].
        steps: local steps K of each, int64 [n].
        population: number of clients N in all.
        lr: the local learning rate η of this round.
        layout: of the flat vector (tensors and their places).
        streams: the server's random draws, [1, d].
        log: ``log(name, value)`` writes a column of metrics.csv.
        attackers: ids of the Byzantine clients of the cohort; no server knows them, only an oracle may look.
    """

    t: int
    clients: list[int]
    samples: Tensor
    steps: Tensor
    population: int
    lr: float
    layout: Layout
    streams: Streams
    log: Callable[[str, float], None]
    attackers: frozenset[int] = frozenset()

    @property
    def d(self) -> int:
        """Length of the coded part."""
        return self.layout.coded


@options
class Algorithm(ABC):
    """A federated method.

    Attributes:
        title: the method's name in tables and figures.
        name: the choice of the config group.
        codes: which parameters the method compresses; the others form the dense tail.
        client_state: names of the [d] vectors that every client keeps between its rounds.
    """

    title: ClassVar[str]
    client_state: ClassVar[tuple[str, ...]] = ()

    name: str
    codes: Codes

    def check(self, config: Config) -> None:
        """Refuse a config that the method cannot run. Raises ConfigError."""

    def init(self, x: Tensor, layout: Layout) -> State:
        """The server's state before the first round, given the initial model x [d] and the places of its tensors."""
        return {"x": x}

    def client_start(self, x: Tensor) -> State:
        """A client's state [d] before its first round, given the initial model x [d], which all can build: zeros."""
        return dict.fromkeys(self.client_state, 0 * x)

    def broadcast(self, server: State) -> Downlink:
        """What every client of the cohort receives: by default the model, in float32."""
        return send(x=server["x"])

    @abstractmethod
    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """The clients' side of a round.

        Args:
            downlink: the broadcast bytes.
            state: of the n clients at hand, name to [n, d]; and ``new``, bool [n], who takes part for the first time.
            local: local training of these clients.
            streams: their random draws, [n, d].

        Returns:
            What they send, and their new state.
        """

    @abstractmethod
    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """The server's side of a round: decode what the cohort sent and update."""

    def reply(self, server: State) -> Downlink:
        """What every client of the cohort receives after the server's step: by default nothing."""
        return {}

    def keep(self, reply: Downlink, state: State) -> State:
        """The state [n, d] of clients that have received a reply."""
        return state

    def weights(self, round: Round) -> Tensor | None:
        """Weights [n] of the clients in an average, summing to one; None is uniform. The tail follows them too."""
        return None

    def message(self, server: State, round: Round) -> Message:
        """The codec of every part of the uplink that stands for d values: with them an attacker reads and writes.

        Parts that are not named stay as the client sent them; a method that names
        none is not attacked by messages.
        """
        return {}

    def values(self, layout: Layout) -> int:
        """The number d of values that such a part stands for: all that are coded, unless a method says otherwise."""
        return layout.coded

    def combine(self, rows: list[Tensor], codec: Codec, round: Round) -> Tensor:
        """What the server makes of one such part, [d]: the mean with the method's weights, if it has no other rule."""
        return codec.mean(rows, self.values(round.layout), self.weights(round))

    def models(self, server: State) -> dict[str, Tensor]:
        """The models [d] to evaluate, by the prefix of their columns; ``test`` is the one that is saved."""
        return {"test": server["x"]}

    @abstractmethod
    def uplink_bits_formula(self, layout: Layout) -> float:
        """Bits that a client sends per round for the coded part, by the paper's own accounting."""

    def cohort_bits_formula(self, layout: Layout, steps: Tensor) -> float:
        """The same for a cohort whose clients take K local steps each, int64 [n]; few messages depend on K."""
        return len(steps) * self.uplink_bits_formula(layout)


def send(**vectors: Tensor) -> Downlink:
    """A broadcast of full-precision vectors [d]."""
    return {name: codecs.Float32().encode(vector[None])[0] for name, vector in vectors.items()}


def dropped(lr: float, drops: Sequence[int], t: int) -> float:
    """The step size of round t: lr, divided by 10 after each of the rounds `drops`."""
    return lr * 0.1 ** sum(t > drop for drop in drops)


def receive(data: Tensor) -> Tensor:
    """The full-precision vector [d] that was broadcast."""
    return codecs.Float32().decode([data], len(data) // 4)[0]


def need_symbols(entropy_coding: bool, key: str, value: object, *coded: object) -> None:
    """Refuse to entropy code what is not sent in symbols: algorithm.key must be one of `coded`. Raises ConfigError."""
    if entropy_coding and value not in coded:
        allowed = ", ".join(str(choice) for choice in coded)
        raise ConfigError(f"algorithm.{key}={value}: must be {allowed} with algorithm.entropy_coding=true")


def need_plain_sgd(config: Config) -> None:
    """Refuse local steps that are not y ← y − η g, for methods that read gradients off y_K. Raises ConfigError."""
    if config.local.optimizer != "sgd" or config.local.momentum:
        given = f"local.optimizer={config.local.optimizer} local.momentum={config.local.momentum:g}"
        raise ConfigError(f"{given}: algorithm={config.algorithm.name} takes plain SGD steps; use sgd and 0")
