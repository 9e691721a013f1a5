"""What methods share that train a latent variable in place of the weights: its optimiser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fedsign.errors import ConfigError

if TYPE_CHECKING:
    from fedsign.config import Config
    from fedsign.local.optimizers import Optimizer

LatentOptimizer = Literal["adam", "local"]  # Adam, started anew in every round, or what local.optimizer says


def latent_optimizer(choice: LatentOptimizer) -> Optimizer | None:
    """The optimiser that local training is given; None is the configured one."""
    from fedsign.local.optimizers import Adam

    return Adam() if choice == "adam" else None


def check_optimizer(choice: LatentOptimizer, config: Config) -> None:
    """Refuse a local optimiser that would go unused. Raises ConfigError."""
    local = config.local
    if choice == "adam" and (local.optimizer == "lion" or local.momentum):
        given = f"local.optimizer={local.optimizer} local.momentum={local.momentum:g}"
        raise ConfigError(f"{given}: not used with algorithm.optimizer=adam; algorithm.optimizer=local uses them")
