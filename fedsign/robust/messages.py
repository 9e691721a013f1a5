"""Where attackers act: after the messages of a cohort are encoded, and before the server decodes one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fedsign.errors import PayloadError
from fedsign.local.streams import Streams

if TYPE_CHECKING:
    from fedsign.algorithms.base import Algorithm, Round, State, Uplink
    from fedsign.codecs import Codec
    from fedsign.robust.attacks import Attack


@dataclass
class Part:
    """One part of a cohort's messages, as an attacker reads and writes it; decoded row by row, empty rows left out.

    Attributes:
        name: of the part.
        rows: what the n clients encoded.
        codec: of the rows, or one per row.
        algorithm: the method under attack.
        round: its round.
    """

    name: str
    rows: list[Tensor]
    codec: Codec | Sequence[Codec]
    algorithm: Algorithm
    round: Round

    @property
    def d(self) -> int:
        """Values of a row."""
        return self.algorithm.values(self.round.layout)

    @cached_property
    def honest(self) -> list[int]:
        """Places in the cohort of H, as far as it has something to say in this part."""
        return [i for i, c in enumerate(self.round.clients) if c not in self.round.attackers and len(self.rows[i])]

    @cached_property
    def mean(self) -> Tensor:
        """Mean of H, [d]."""
        return self._mean_of(self.sent)

    @cached_property
    def std(self) -> Tensor:
        """Standard deviation of H, [d]: the root of the mean squared deviation."""
        return self._mean_of(lambda i: (self.sent(i) - self.mean).square()).sqrt()

    @cached_property
    def aggregate(self) -> Tensor:
        """What the server would make of H alone, [d]; the mean where every client has a codec of its own."""
        if isinstance(self.codec, Sequence):
            return self.mean
        clients = [self.round.clients[i] for i in self.honest]
        samples, steps = self.round.samples[self.honest], self.round.steps[self.honest]
        alone = replace(self.round, clients=clients, samples=samples, steps=steps, attackers=frozenset())
        return self.algorithm.combine([self.rows[i] for i in self.honest], self.codec, alone)

    def sent(self, i: int) -> Tensor:
        """What client i of the cohort sent, [d]."""
        return self._codec(i).decode([self.rows[i]], self.d)[0]

    def written(self, i: int, vector: Tensor) -> Tensor:
        """The row of bytes with which client i comes nearest to a vector [d]."""
        return self._codec(i).write(vector[None], self.streams(i))[0]

    def streams(self, i: int) -> Streams:
        """Random draws [1, d] of client i of the cohort."""
        server = self.round.streams
        return Streams(server.seed, server.round, [self.round.clients[i]], server.device)

    def _codec(self, i: int) -> Codec:
        return self.codec[i] if isinstance(self.codec, Sequence) else self.codec

    def _mean_of(self, value: Callable[[int], Tensor]) -> Tensor:
        total = torch.zeros(self.d, device=self.rows[0].device)
        for i in self.honest:
            total += value(i)
        return total / len(self.honest)


def forge(attack: Attack, algorithm: Algorithm, server: State, uplink: Uplink, round: Round) -> None:
    """Replace in `uplink` the messages of the attackers by what they encode instead; `server` is its state before.

    Raises:
        PayloadError: a value that an attacker wants to send is not finite.
    """
    if not round.attackers:
        return
    for name, codec in algorithm.message(server, round).items():
        part = Part(name, uplink[name], codec, algorithm, round)
        forged = list(part.rows)
        for i, client in enumerate(round.clients):
            vector = attack.vector(part, i) if client in round.attackers and len(part.rows[i]) else None
            if vector is None:
                continue
            try:
                forged[i] = part.written(i, vector)
            except PayloadError as error:
                raise PayloadError(f"attack={attack.name}: {error}", i) from None
        uplink[name] = forged
