"""``dry_run=true``: build everything, train nothing; works without the data being there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedsign.algorithms.base import Round
from fedsign.codecs import Float32
from fedsign.config import Config, Local
from fedsign.data import tasks
from fedsign.execution.setup import flat_model, hold_out, split
from fedsign.local.optimizers import Optimizer
from fedsign.local.streams import Streams
from fedsign.local.training import LocalTraining, Trained, WeightMap
from fedsign.models.parameters import FlatModel, Layout


class Untrained(LocalTraining):
    """Local training that moves every weight by a random step instead: what is sent has its real form and length."""

    def __init__(self, streams: Streams, local: Local, layout: Layout, samples: int):
        self.streams, self.lr, self.layout = streams, local.lr, layout
        self.clients = streams.clients
        self.samples = torch.full((len(self.clients),), samples)
        self.step_counts = [local.steps_of(samples)] * len(self.clients)
        self.steps = torch.tensor(self.step_counts)
        self.calls: list[int | None] = []  # local steps that the method took; None: as many as the config says

    def train(
        self,
        x: Tensor,
        *,
        correction: Tensor | None = None,
        weights: WeightMap | None = None,
        optimizer: Optimizer | None = None,
        steps: int | None = None,
    ) -> Trained:
        """x plus standard normal noise."""
        self.calls.append(steps)
        y = x + self.streams.normal("dry_run", x.shape[-1])
        names = optimizer.names if optimizer else ()
        return Trained(y, {name: torch.zeros_like(y) for name in names})

    def gradient(self, x: Tensor) -> Tensor:
        """Standard normal noise."""
        self.calls.append(1)
        return self.streams.normal("dry_run", x.shape[-1])

    def log(self, name: str, values: Tensor | float) -> None:
        """Nothing is measured."""


@dataclass(frozen=True)
class OneRound:
    """What a round of untrained clients shows.

    Attributes:
        model: the initialised model.
        server: the server's state after the round.
        local: what a client asked of local training.
        up, down: bits of every part of a client's message and of the broadcast.
        models: number of models that an evaluation measures.
    """

    model: FlatModel
    server: dict[str, Tensor]
    local: Untrained
    up: dict[str, int]
    down: dict[str, int]
    models: int


def one_round(config: Config, samples: int) -> OneRound:
    """A round of clients with so many samples each, in which nobody trains."""
    shape, classes = config.dataset.dimensions()
    device = torch.device("cpu")
    model = flat_model(config, shape, classes, device)
    layout, algorithm = model.layout, config.algorithm
    local = Untrained(Streams(config.seed, 1, [0], device), config.local, layout, samples)
    initial = model.vector[: layout.coded].clone()
    server = algorithm.init(initial, layout)
    downlink = algorithm.broadcast(server)
    state = {name: row[None] for name, row in algorithm.client_start(initial).items()}
    state["new"] = torch.zeros(1, dtype=torch.bool)  # a client that took part before
    uplink, _ = algorithm.client(downlink, state, local, local.streams)
    server = algorithm.server(
        server, {name: rows * config.cohort for name, rows in uplink.items()}, _round(config, local)
    )
    tail_bits = 8 * Float32().length(layout.tail)
    up = {name: 8 * rows[0].numel() for name, rows in uplink.items()} | ({"tail": tail_bits} if layout.tail else {})
    received = algorithm.broadcast(server) | algorithm.reply(server)  # from the second round on
    down = {name: 8 * data.numel() for name, data in received.items()} | ({"tail": tail_bits} if layout.tail else {})
    return OneRound(model, server, local, up, down, len(algorithm.models(server)))


def dry_run(config: Config) -> dict[str, Any]:
    """Parameter counts, tensors, client sizes and the bits of one round, as written to ``summary.json``."""
    sizes = client_sizes(config)
    round = one_round(config, sizes[0] if sizes else 1)
    layout, algorithm, up, down = round.model.layout, config.algorithm, round.up, round.down
    formula = algorithm.cohort_bits_formula(layout, round.local.steps) + 32 * layout.tail
    return {
        "status": "dry run",
        "algorithm": algorithm.name,
        "parameters": layout.parameters,
        "coded": layout.coded,
        "dense": layout.dense,
        "buffers": layout.buffers,
        "tensors": [
            {"name": s.name, "shape": list(s.shape), "part": _part(s.start, layout.coded, layout.parameters)}
            for s in layout.segments
        ]
        + [
            {"name": name, "shape": list(tensor.shape), "part": "frozen"} for name, tensor in round.model.frozen.items()
        ],
        "server_values": sum(value.numel() for value in round.server.values()) + layout.tail,
        "client_sizes": sizes,
        "bits_per_round": {
            "uplink": config.cohort * sum(up.values()),
            "uplink_formula": config.cohort * formula,
            "downlink": config.cohort * sum(down.values()),
            "uplink_per_client": up,
            "downlink_per_client": down,
            "uplink_bits_per_parameter": sum(up.values()) / layout.parameters,
        },
    }


def text(summary: dict[str, Any]) -> str:
    """A dry run's summary for people."""
    bits = summary["bits_per_round"]
    tensors = [f"  {t['name']:<24} {'x'.join(map(str, t['shape'])):<16} {t['part']}" for t in summary["tensors"]]
    sizes = summary["client_sizes"]
    clients = "client sizes   the data is not here, so it was not split"
    if sizes is not None:
        clients = f"client sizes   {len(sizes)} clients, {min(sizes)} to {max(sizes)} samples"
    up, down = (
        "  ".join(f"{name} {value:,}" for name, value in bits[f"{way}_per_client"].items())
        for way in ("uplink", "downlink")
    )
    return "\n".join(
        [
            f"parameters     {summary['parameters']:,} = {summary['coded']:,} coded + {summary['dense']:,} dense; "
            f"{summary['buffers']:,} in buffers",
            *tensors,
            clients,
            f"uplink         {bits['uplink']:,} bits a round (formula {bits['uplink_formula']:,.0f}), "
            f"{bits['uplink_bits_per_parameter']:.4g} bits per parameter and client; per client: {up}",
            f"downlink       {bits['downlink']:,} bits a round; per client: {down}",
        ]
    )


def _round(config: Config, local: Untrained) -> Round:
    """A round of a cohort of equal clients."""
    n = config.cohort
    return Round(
        t=1,
        clients=list(range(n)),
        samples=local.samples.expand(n),
        steps=local.steps.expand(n),
        population=max(n, config.clients),  # natural clients are not known without their data
        lr=local.lr,
        layout=local.layout,
        streams=local.streams,
        log=local.log,
    )


def client_sizes(config: Config) -> list[int] | None:
    """Training samples of every client; None where the data are not here."""
    if not config.dataset.is_here():
        return None
    parts, _ = hold_out(config, split(config, tasks.load(config.dataset, torch.device("cpu"))))
    return [len(part) for part in parts]


def _part(start: int, coded: int, parameters: int) -> str:
    if start < coded:
        return "coded"
    return "dense" if start < parameters else "buffer"
