"""The clients' side of a first round for one client alone: what a report measures without a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fedsign.config import Config
from fedsign.execution import setup

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, State, Uplink
    from fedsign.execution.executor import CohortTraining

CLIENT = 0


@dataclass(frozen=True)
class OneClient:
    """Client 0 in round 1 of a config.

    Attributes:
        config: of the run that it would be part of.
        built: its data, model and executor.
        server: the server's state before the round.
        downlink: what the client receives.
    """

    config: Config
    built: setup.Setup
    server: State
    downlink: Downlink

    def training(self) -> CohortTraining:
        """Local training, not yet begun; every call starts from the same place."""
        return self.built.executor.training([CLIENT], 1, self.built.initial[self.built.layout.coded :])

    def send(self, training: CohortTraining) -> Uplink:
        """Train and encode, as the method says."""
        algorithm = self.config.algorithm
        start = algorithm.client_start(self.built.initial[: self.built.layout.coded])
        state = {name: row[None] for name, row in start.items()} | {"new": torch.ones(1, dtype=torch.bool)}
        return algorithm.client(self.downlink, state, training, training.streams)[0]


def one_client(config: Config) -> OneClient:
    """Load the data, build the model, and broadcast. Raises FedsignError."""
    setup.prepare(config)
    built = setup.build(config)
    server = config.algorithm.init(built.initial[: built.layout.coded].clone(), built.layout)
    return OneClient(config, built, server, config.algorithm.broadcast(server))
