"""Byzantine behaviour: who the attackers of a run are, and the vector that each of them would like to send.

A vector is written with the method's own codec (`fedsign.robust.messages`), so that what arrives is always legal. H are
the honest clients of the same round; nothing else is known to an attacker.
"""

from __future__ import annotations

from abc import abstractmethod
from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar, Literal

from fedsign.algorithms.base import Algorithm
from fedsign.errors import ConfigError
from fedsign.options import Count, Finite, Positive, count, options
from fedsign.randomness import generator

if TYPE_CHECKING:
    from fedsign.algorithms.base import Tensor
    from fedsign.config import Config
    from fedsign.robust.messages import Part


@options
class Attack:
    """Byzantine clients; by themselves they behave as the honest ones do.

    Attributes:
        name: the choice of the config group.
        clients: how many of the N clients are Byzantine, as a number or as a fraction of N.
    """

    flips_labels: ClassVar[bool] = False  # trains on labels C − 1 − y

    name: str
    clients: Count

    def check(self, config: Config) -> None:
        """Refuse a config in which the attack cannot be run. Raises ConfigError."""
        forges = type(self).vector is not Attack.vector
        if forges and type(config.algorithm).message is Algorithm.message:
            name = config.algorithm.name
            raise ConfigError(f"attack={self.name}: algorithm={name} does not say how an attacker writes its messages")

    def attackers(self, seed: int, clients: int) -> frozenset[int]:
        """Ids of the attackers, the same in every round; fewer are a part of more.

        Args:
            seed: of the run.
            clients: number of clients N.

        Raises:
            ConfigError: no honest client would be left.
        """
        f = count(self.clients, clients)
        if f >= clients:
            raise ConfigError(f"attack.clients={self.clients:g}: must be less than the number of clients, {clients}")
        return frozenset(int(i) for i in generator(seed, "attackers").permutation(clients)[:f])

    def vector(self, part: Part, i: int) -> Tensor | None:
        """What attacker `i` would like to send in a part of its message, [d]; None leaves the message as it is."""
        return None


class LabelFlip(Attack):
    """Data poisoning: the attackers train honestly on labels C − 1 − y."""

    flips_labels: ClassVar[bool] = True

    def check(self, config: Config) -> None:
        """Labels are needed."""
        if config.dataset.kind == "vector":
            raise ConfigError(f"attack={self.name}: dataset={config.dataset.name} has no labels to flip")


@options
class SignFlip(Attack):
    """−c v_i: its own message, reversed."""

    scale: Positive  # c

    def vector(self, part: Part, i: int) -> Tensor:
        """−c v_i."""
        return -self.scale * part.sent(i)


@options
class Gaussian(Attack):
    """Noise N(0, σ² I), instead of its own message (Blanchard et al., NeurIPS 2017) or added to it."""

    sigma: Positive  # σ
    centre: Literal["zero", "own"]

    def vector(self, part: Part, i: int) -> Tensor:
        """σ ξ, or v_i + σ ξ."""
        noise = self.sigma * part.streams(i).normal(f"attack {part.name}", part.d)[0]
        return noise if self.centre == "zero" else part.sent(i) + noise


class RandomBits(Attack):
    """A fair ±1 for every coordinate, whatever the data say."""

    def vector(self, part: Part, i: int) -> Tensor:
        """Fair signs."""
        return (part.streams(i).uniform(f"attack {part.name}", part.d)[0] < 0.5) * 2.0 - 1.0


class Omniscient(Attack):
    """Attackers who read what the honest clients of the round sent, and all send the same.

    Where a cohort has no honest client there is nothing to read, and their messages stay as they are.
    """

    def vector(self, part: Part, i: int) -> Tensor | None:
        """The common vector."""
        return self.common(part) if part.honest else None

    @abstractmethod
    def common(self, part: Part) -> Tensor:
        """A function of H alone, [d]."""


class Opposite(Omniscient):
    """The opposite of what the server would make of H (Yue et al., FedVote): −sign Σ H of votes, −mean, −median."""

    def common(self, part: Part) -> Tensor:
        """−Agg(H)."""
        return -part.aggregate


@options
class IPM(Omniscient):
    """Inner product manipulation (Xie et al., UAI 2019): a small ε passes for honest, ε > 1 overturns a mean."""

    epsilon: Positive  # ε

    def common(self, part: Part) -> Tensor:
        """−ε mean H."""
        return -self.epsilon * part.mean


@options
class ALIE(Omniscient):
    """A little is enough (Baruch et al., NeurIPS 2019): as far from the mean as hides in the spread of H."""

    z: Finite | None  # null: z_max of Algorithm 3

    def common(self, part: Part) -> Tensor:
        """μ_H − z σ_H per coordinate, σ_H² the mean of the squared deviations as in the released code."""
        z = z_max(len(part.round.clients), len(part.round.attackers)) if self.z is None else self.z
        return part.mean - z * part.std


def z_max(n: int, f: int) -> float:
    """Φ^{-1}((n−f−s)/(n−f)) with s = ⌊n/2⌋ + 1 − f, the honest clients whom f of n attackers need for a majority.

    Attackers who are a majority by themselves (s < 1) go as far as if they needed one; beside a single honest client
    there is no spread to hide in, and z = 0.
    """
    s = max(n // 2 + 1 - f, 1)
    share = (n - f - s) / (n - f)
    return NormalDist().inv_cdf(share) if share > 0 else 0.0
