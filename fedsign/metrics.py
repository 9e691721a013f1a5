"""Measurements of a cohort's updates."""

from __future__ import annotations

from torch import Tensor


class MagnitudeUniformity:
    """FedSMU's magnitude-uniformity index Φ_t (Definition 3.1, equation (2)), over the clients of a round.

    Φ_t = Σ_j (Σ_i ĝ_ij)² / (n Σ_i ĝ_ij²) with ĝ_ij = |y_{K,ij} − y_{0,ij}|. The paper sums over coordinates, and a
    coordinate that no client moved is 0/0: here the mean over the moved coordinates is reported, which lies in
    [1/n, 1]; d times it is the paper's scale.
    """

    def __init__(self) -> None:
        self.n = 0
        self._sum: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, updates: Tensor) -> None:
        """Add the updates y_K − y_0 of some clients, [n, d]."""
        for row in updates.double():  # one by one: the sum does not depend on how the cohort was split
            magnitude = row.abs()
            self._sum = magnitude if self._sum is None else self._sum + magnitude
            self._squares = magnitude**2 if self._squares is None else self._squares + magnitude**2
            self.n += 1

    def value(self) -> float:
        """The mean over moved coordinates; NaN if no client moved."""
        assert self._sum is not None and self._squares is not None
        moved = self._squares > 0
        return float((self._sum[moved] ** 2 / (self.n * self._squares[moved])).mean())
