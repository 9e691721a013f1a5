"""The round loop: the only file that knows what a round is."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from fedsign.algorithms.base import Round
from fedsign.codecs import Float32
from fedsign.codecs.codec import finite
from fedsign.config import Config
from fedsign.errors import FedsignError, NotFiniteError, PayloadError
from fedsign.execution.serial import SerialTraining
from fedsign.execution.setup import Setup
from fedsign.federation.sampling import cohort
from fedsign.federation.state import ClientStates
from fedsign.interrupt import Interrupted, Interrupts
from fedsign.local.streams import Streams
from fedsign.metrics import MagnitudeUniformity
from fedsign.robust.messages import forge
from fedsign.tracking.checkpoint import Checkpoints, Snapshot
from fedsign.tracking.progress import RoundProgress
from fedsign.tracking.tracker import Tracker

TAIL = "tail"  # message part of the dense tail, beside the parts that a method names
SERVER = 2**32  # the server's place among the client ids of the random streams


class Simulator:
    """Runs a config round by round, from the start or from its last checkpoint."""

    def __init__(self, config: Config, setup: Setup):
        self.config, self.algorithm = config, config.algorithm
        self.layout, self.executor, self.task = setup.layout, setup.executor, setup.task
        d = self.layout.coded
        self.server: dict[str, Tensor] = self.algorithm.init(setup.initial[:d].clone(), self.layout)
        self.tail = setup.initial[d:].clone()
        self.attackers = config.attack.attackers(config.seed, config.clients)
        self.counters = {"uplink_bits": 0.0, "uplink_bits_formula": 0.0, "downlink_bits": 0.0}
        self.counters |= {"seconds": 0.0, "dropped": 0.0}
        self.checkpoints = Checkpoints(config.output / "checkpoint")
        if config.resume == "never":
            self.checkpoints.clear()
        self.t, self.stopped = 0, False
        self.states = ClientStates(self.checkpoints.folder, self.algorithm.client_state, config.clients, d)
        if found := self.checkpoints.load(self.executor.device, self.states.intact):
            last = found[0]
            self.t, self.stopped = last.t, last.stopped
            self.server, self.tail, self.counters = last.server, last.tail, last.counters
            self.states.restore([snapshot.slots for snapshot in found])

    def run(self, tracker: Tracker, progress: RoundProgress, interrupts: Interrupts) -> str:
        """Run the rounds that are left.

        Args:
            tracker: takes the rows.
            progress: shown to the user.
            interrupts: looked at after every round.

        Returns:
            ``finished`` after the last round, ``stopped`` at a target of ``stop.*``.

        Raises:
            Interrupted: on SIGINT or SIGTERM, at the end of the round, with a checkpoint written.
            FedsignError: an update that is not finite, or a payload that cannot be decoded.
        """
        saved_at = time.monotonic()
        while self.t < self.config.rounds and not self.stopped:
            started = time.monotonic()
            clients = cohort(self.config.seed, self.t + 1, self.config.clients, self.config.cohort)
            columns = self._round(self.t + 1, clients)
            self.t += 1
            self.counters["seconds"] += time.monotonic() - started
            tracker.cohort(self.t, clients)
            row = None
            self.stopped = self._budget_spent()
            if self.stopped or self.t % self.config.eval.every == 0 or self.t == self.config.rounds:
                row = self._row(columns)
                tracker.metrics(row)
                self.stopped = self.stopped or self._accurate(row)
            progress.update(self.t, row, self.counters["uplink_bits"])
            if self._checkpoint_due(saved_at) or interrupts.received is not None:
                self._save(tracker)
                saved_at = time.monotonic()
            if interrupts.received is not None:
                raise Interrupted(interrupts.received)
        self._save(tracker)
        return "stopped" if self.stopped else "finished"

    def model(self) -> Tensor:
        """The global model with its tail, [coded + dense + buffers]."""
        return torch.cat([self.algorithm.models(self.server)["test"], self.tail])

    def _round(self, t: int, clients: list[int]) -> dict[str, float]:
        """One round; returns the method's own columns."""
        downlink = self.algorithm.broadcast(self.server)
        tail_sent = Float32().encode(self.tail[None])[0]
        self.counters["downlink_bits"] += len(clients) * _bits([*downlink.values(), tail_sent])
        tail = Float32().decode([tail_sent], self.layout.tail)[0]

        uplink: dict[str, list[Tensor]] = {}
        logs: dict[str, list[Tensor]] = {}
        mu_index = MagnitudeUniformity() if self.config.eval.mu_index else None
        parts, sane = [*self.executor.split(clients)], list[int]()
        while parts:
            part = parts.pop(0)
            try:
                sent, training = self._clients(t, part, downlink, tail)
            except PayloadError as error:
                if self.config.on_nan == "stop" or not isinstance(error, NotFiniteError):
                    raise _named(error, t, part) from None
                if len(part) > 1:  # one by one; their numbers do not depend on who is trained beside them
                    parts = [[client] for client in part] + parts
                else:
                    self.counters["dropped"] += 1
                continue
            sane += part
            for name, rows in sent.items():
                uplink.setdefault(name, []).extend(rows)
            for name, values in training.logs.items():
                logs.setdefault(name, []).append(values)
            if mu_index is not None and training.updates is not None:
                mu_index.add(training.updates)
        if not sane:
            raise FedsignError(f"round {t}: the updates of all {len(clients)} clients are NaN or infinite")

        columns = {name: float(torch.cat(values).mean()) for name, values in logs.items()}
        if mu_index is not None and mu_index.n:
            columns["mu_index"] = mu_index.value()
        self._aggregate(t, sane, uplink, columns)
        return columns

    def _clients(
        self, t: int, part: list[int], downlink: dict[str, Tensor], tail: Tensor
    ) -> tuple[dict[str, list[Tensor]], SerialTraining]:
        """The side of some clients: train, encode, keep their state. Raises PayloadError before any is kept."""
        training = self.executor.training(part, t, tail)
        states = self.states.read(part, self.executor.device)
        sent, states = self.algorithm.client(downlink, states, training, training.streams)
        sent = sent | {TAIL: Float32().encode(training.tails)}
        if training.updates is not None:
            finite(training.updates)  # an infinite weight may have a finite sign
        self.states.write(part, states)
        return sent, training

    def _aggregate(
        self, t: int, clients: list[int], uplink: dict[str, list[Tensor]], columns: dict[str, float]
    ) -> None:
        """The server's side: let attackers write theirs, count the bytes, hand them to the method, average the tail."""
        round = Round(
            t=t,
            clients=clients,
            samples=torch.tensor([len(self.executor.parts[c]) for c in clients], device=self.executor.device),
            population=self.config.clients,
            lr=self.config.local.learning_rate(t),
            layout=self.layout,
            streams=Streams(self.config.seed, t, [SERVER], self.executor.device),
            log=columns.__setitem__,
            attackers=self.attackers.intersection(clients),
        )
        if self.attackers:
            round.log("attackers", len(round.attackers))
        try:
            forge(self.config.attack, self.algorithm, self.server, uplink, round)
            self.counters["uplink_bits"] += sum(_bits(rows) for rows in uplink.values())
            formula = self.algorithm.uplink_bits_formula(self.layout) + 32 * self.layout.tail
            self.counters["uplink_bits_formula"] += len(clients) * formula
            tails = uplink.pop(TAIL)
            self.server = self.algorithm.server(self.server, uplink, round)
            if self.layout.tail:
                self.tail = Float32().mean(tails, self.layout.tail, self.algorithm.weights(round))
        except PayloadError as error:
            raise _named(error, t, clients) from None
        if not torch.isfinite(self.model()).all():
            raise FedsignError(f"round {t}: the global model is NaN or infinite")

    def _row(self, columns: dict[str, float]) -> dict[str, Any]:
        """A row of metrics.csv: evaluate every model that the method names."""
        flat, size = self.executor.model, self.config.eval.batch_size
        measured: dict[str, float] = {}
        for prefix, model in self.algorithm.models(self.server).items():
            flat.vector[: self.layout.coded], flat.vector[self.layout.coded :] = model, self.tail
            measured |= self.task.evaluate(flat.module, prefix, size)
            if self.config.eval.train and prefix == "test":
                measured |= self.task.evaluate_train(flat.module, size)
        columns = dict(columns)
        row: dict[str, Any] = {"round": self.t}
        row |= {k: int(self.counters[k]) for k in ("uplink_bits", "uplink_bits_formula", "downlink_bits")}
        row |= {k: measured.pop(k, None) for k in ("test_accuracy", "test_loss")}
        row |= {"train_loss": columns.pop("train_loss", None), "seconds": round(self.counters["seconds"], 3)}
        if self.config.on_nan == "drop":
            row["dropped"] = int(self.counters["dropped"])
        return row | measured | columns

    def _budget_spent(self) -> bool:
        budget = self.config.stop.uplink_bits
        return budget is not None and self.counters["uplink_bits"] >= budget

    def _accurate(self, row: dict[str, Any]) -> bool:
        target, accuracy = self.config.stop.accuracy, row["test_accuracy"]
        return target is not None and accuracy is not None and accuracy >= target

    def _checkpoint_due(self, saved_at: float) -> bool:
        every, minutes = self.config.checkpoint.every, self.config.checkpoint.minutes
        if every is not None and self.t % every == 0:
            return True
        return minutes is not None and time.monotonic() - saved_at >= 60 * minutes

    def _save(self, tracker: Tracker) -> None:
        """Write a checkpoint, when all that it counts on is on the disk."""
        tracker.sync()
        slots = self.states.commit()
        self.checkpoints.save(Snapshot(self.t, self.stopped, self.server, self.tail, slots, self.counters))


def _bits(rows: Iterable[Tensor]) -> int:
    return 8 * sum(row.numel() for row in rows)


def _named(error: PayloadError, t: int, clients: list[int]) -> FedsignError:
    who = f"client {clients[error.row]}" if error.row is not None else "a client"
    return FedsignError(f"round {t}, {who}: {error}")
