"""The rule by which a server combines dense vectors: the mean, or one that some Byzantine clients cannot move far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fedsign.algorithms.base import Algorithm
from fedsign.errors import ConfigError
from fedsign.options import Count, PositiveInt, count, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Codec, Round, Tensor
    from fedsign.config import Config


@options
class Aggregated(Algorithm):
    """A method whose server combines one dense vector per client.

    Attributes:
        aggregator: the rule.
        f: attackers in a cohort that the rule assumes, as a number or as a fraction of the cohort; it trims f at
            either end, or leaves f out of the neighbours. Median and geometric median need not know it.
        m: how many vectors multi_krum averages; null is n − f.
    """

    aggregator: Literal["mean", "median", "trimmed_mean", "krum", "multi_krum", "geometric_median"]
    f: Count
    m: PositiveInt | None

    def check(self, config: Config) -> None:
        """The rule must be defined for f attackers among the n of a cohort, and m is multi_krum's alone."""
        n, f = config.cohort, count(self.f, config.cohort)
        needed = {"trimmed_mean": 2 * f + 1, "krum": 2 * f + 3, "multi_krum": 2 * f + 3}.get(self.aggregator, 1)
        if n < needed:
            form = "2 f + 1" if self.aggregator == "trimmed_mean" else "2 f + 3"
            raise ConfigError(
                f"algorithm.aggregator={self.aggregator}: for algorithm.f={f} attackers (by default attack.clients) "
                f"it needs at least {form} = {needed} clients a round, and cohort={n}"
            )
        if self.m is not None and (self.aggregator != "multi_krum" or self.m > n):
            allowed = f"at most cohort={n}" if self.aggregator == "multi_krum" else "null"
            raise ConfigError(f"algorithm.m={self.m}: must be {allowed} with algorithm.aggregator={self.aggregator}")

    def combine(self, rows: list[Tensor], codec: Codec, round: Round) -> Tensor:
        """The mean with the method's weights, or the robust rule.

        For the honest clients alone, as an omniscient attacker does it, f and m are cut to what their number allows.
        """
        from fedsign.robust import aggregators

        if self.aggregator == "mean":
            return super().combine(rows, codec, round)
        v = codec.decode(rows, round.d)
        n = len(v)
        f = count(self.f, n)
        if self.aggregator == "median":
            return aggregators.median(v)
        if self.aggregator == "geometric_median":
            return aggregators.geometric_median(v)
        if self.aggregator == "trimmed_mean":
            return aggregators.trimmed_mean(v, min(f, (n - 1) // 2))
        f = min(f, max(n - 3, 0))  # at least one neighbour
        m = 1 if self.aggregator == "krum" else min(self.m or n - f, n)
        return aggregators.multi_krum(v, f, m)
