"""The round loop: the only file that knows what a round is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from fedsign.algorithms.base import Round
from fedsign.codecs import Float32
from fedsign.codecs.codec import finite
from fedsign.config import Config
from fedsign.errors import FedsignError, NotFiniteError, PayloadError
from fedsign.execution.ranks import Ranks, Rows
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

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink

TAIL = "tail"  # message part of the dense tail, beside the parts that a method names
Columns: TypeAlias = dict[str, "Tensor | float"]
UPLINK, LOG, UPDATE = "uplink/", "log/", "update"  # what a client's rows of bytes are: sent, or measured beside it
SERVER = 2**32  # the server's place among the client ids of the random streams


class Simulator:
    """Runs a config round by round, from the start or from its last checkpoint."""

    def __init__(self, config: Config, setup: Setup):
        self.config, self.algorithm = config, config.algorithm
        self.layout, self.executor, self.task = setup.layout, setup.executor, setup.task
        d = self.layout.coded
        self.ranks = Ranks()
        self.server: dict[str, Tensor] = self.algorithm.init(setup.initial[:d].clone(), self.layout)
        self.tail = setup.initial[d:].clone()
        self.attackers = config.attack.attackers(config.seed, config.clients)
        self.counters = {"uplink_bits": 0.0, "uplink_bits_formula": 0.0, "downlink_bits": 0.0}
        self.counters |= {"seconds": 0.0, "dropped": 0.0}
        self.checkpoints = Checkpoints(config.output / "checkpoint")
        if config.resume == "never":
            self.checkpoints.clear()
        self.t, self.stopped = 0, False
        start = self.algorithm.client_start(setup.initial[:d])
        self.states = ClientStates(self.checkpoints.folder, self.algorithm.client_state, config.clients, d, start)
        if found := self.checkpoints.load(self.executor.device, self.states.intact):
            last = found[0]
            self.t, self.stopped = last.t, last.stopped
            self.server, self.tail, self.counters = last.server, last.tail, last.counters
            self.states.restore([snapshot.slots for snapshot in found])

    def run(self, ranks: Ranks, tracker: Tracker | None, progress: RoundProgress | None, interrupts: Interrupts) -> str:
        """Run the rounds that are left, as one of the ranks that share them.

        Args:
            ranks: this process among those of the run.
            tracker: takes the rows; None on all ranks but the first.
            progress: shown to the user; None on all ranks but the first.
            interrupts: looked at after every round.

        Returns:
            ``finished`` after the last round, ``stopped`` at a target of ``stop.*``.

        Raises:
            Interrupted: on SIGINT or SIGTERM, at the end of the round, with a checkpoint written.
            FedsignError: an update that is not finite, or a payload that cannot be decoded.
        """
        self.ranks = ranks
        saved_at = time.monotonic()
        while self.t < self.config.rounds and not self.stopped:
            started = time.monotonic()
            clients = cohort(self.config.seed, self.t + 1, self.config.clients, self.config.cohort)
            columns = self._round(self.t + 1, clients)
            self.t += 1
            if not torch.isfinite(self.model()).all():
                raise FedsignError(f"round {self.t}: the global model is NaN or infinite")
            self.counters["seconds"] += time.monotonic() - started
            row = None
            self.stopped = self._budget_spent()
            if self.stopped or self.t % self.config.eval.every == 0 or self.t == self.config.rounds:
                row = self._row(columns)
                self.stopped = self.stopped or self._accurate(row)
            if tracker is not None:
                tracker.cohort(self.t, clients)
                if row is not None:
                    tracker.metrics(row)
            if progress is not None:
                progress.update(self.t, row, self.counters["uplink_bits"])
            due, signal = self._decide(self._checkpoint_due(saved_at), interrupts.received)
            if due or signal:
                self._save(tracker)
                saved_at = time.monotonic()
            if signal:
                raise Interrupted(signal)
        self._save(tracker)
        return "stopped" if self.stopped else "finished"

    def model(self) -> Tensor:
        """The global model with its tail, [coded + dense + buffers]."""
        return torch.cat([self.algorithm.models(self.server)["test"], self.tail])

    def _round(self, t: int, clients: list[int]) -> Columns:
        """One round; returns the method's own columns."""
        downlink = self.algorithm.broadcast(self.server)
        tail_sent = Float32().encode(self.tail[None])[0]
        self.counters["downlink_bits"] += len(clients) * _bits([*downlink.values(), tail_sent])
        mine = self.ranks.share(clients, self.executor.samples(clients), pinned=bool(self.states.names))
        rows: Rows = {}
        kept: list[int] = []
        error = None
        try:
            for part, trained in self._cohort(t, mine, downlink, tail_sent):
                kept += part
                for name, values in trained.items():
                    rows.setdefault(name, []).extend(values)
        except FedsignError as failure:
            error = str(failure)
        kept, rows = self.ranks.gather(clients, kept, rows, error)
        self.states.written(kept)
        self.counters["dropped"] += len(clients) - len(kept)
        if not kept:
            raise FedsignError(f"round {t}: the updates of all {len(clients)} clients are NaN or infinite")

        columns: Columns = {name: _floats(values).mean() for name, values in _under(LOG, rows).items()}
        if UPDATE in rows:
            mu_index = MagnitudeUniformity()
            for row in rows[UPDATE]:
                mu_index.add(_floats([row]))
            columns["mu_index"] = mu_index.value()
        self._aggregate(t, kept, _under(UPLINK, rows), columns)
        if reply := self.algorithm.reply(self.server):
            self.counters["downlink_bits"] += len(kept) * _bits(reply.values())
            for part in self.executor.split([client for client in mine if client in kept]):
                states = self.states.read(part, self.executor.device)
                self.states.write(part, self.algorithm.keep(reply, states))
        return columns

    def _cohort(
        self, t: int, clients: list[int], downlink: Downlink, tail_sent: Tensor
    ) -> Iterator[tuple[list[int], Rows]]:
        """Train some clients, part by part; those whose update is not finite are named, or dropped with on_nan=drop."""
        parts = self.executor.split(clients)
        while parts:
            part = parts.pop(0)
            try:
                yield part, self._train(t, part, downlink, tail_sent)
            except PayloadError as error:
                if self.config.on_nan == "stop" or not isinstance(error, NotFiniteError):
                    raise _named(error, t, part) from None
                if len(part) > 1:  # one by one; their numbers do not depend on who is trained beside them
                    parts = [[client] for client in part] + parts

    def _train(self, t: int, part: list[int], downlink: Downlink, tail_sent: Tensor) -> Rows:
        """The clients' side for some of the cohort: what they send, and what is measured beside it, as bytes.

        Raises PayloadError before any state is kept.
        """
        training = self.executor.training(part, t, Float32().decode([tail_sent], self.layout.tail)[0])
        states = self.states.read(part, self.executor.device)
        sent, states = self.algorithm.client(downlink, states, training, training.streams)
        sent = sent | {TAIL: Float32().encode(training.tails)}
        if training.updates is not None:
            finite(training.updates)  # an infinite weight may have a finite sign
        self.states.write(part, states)
        rows = {UPLINK + name: values for name, values in sent.items()}
        rows |= {LOG + name: _rows(values[:, None]) for name, values in training.logs.items()}
        if self.config.eval.mu_index and training.updates is not None:
            rows[UPDATE] = _rows(training.updates)
        return rows

    def _aggregate(self, t: int, clients: list[int], uplink: Rows, columns: Columns) -> None:
        """The server's side: let attackers write theirs, count the bytes, hand them to the method, average the tail."""
        samples = [len(self.executor.parts[c]) for c in clients]
        steps = torch.tensor([self.config.local.steps_of(s) for s in samples])
        round = Round(
            t=t,
            clients=clients,
            samples=torch.tensor(samples, device=self.executor.device),
            steps=steps,
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
            self.counters["uplink_bits_formula"] += self.algorithm.cohort_bits_formula(self.layout, steps)
            self.counters["uplink_bits_formula"] += len(clients) * 32 * self.layout.tail
            tails = uplink.pop(TAIL)
            self.server = self.algorithm.server(self.server, uplink, round)
            if self.layout.tail:
                self.tail = Float32().mean(tails, self.layout.tail, self.algorithm.weights(round))
        except PayloadError as error:
            raise _named(error, t, clients) from None

    def _row(self, columns: Columns) -> dict[str, Any]:
        """A row of metrics.csv: evaluate every model that the method names."""
        evaluation = self.config.eval
        measured: dict[str, float] = {}
        for prefix, model in self.algorithm.models(self.server).items():
            train = evaluation.train and prefix == "test"
            measured |= self.executor.evaluate(model, self.tail, prefix, evaluation.batch_size, train, self.ranks.each)
        columns = {name: float(value) for name, value in columns.items()}
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

    def _decide(self, due: bool, signal: int | None) -> tuple[bool, int]:
        """What all ranks do alike: save if the first finds it due, stop if one of them received a signal."""
        agreed = self.ranks.agree((signal or 0) * 2 + (due and self.ranks.first))
        return bool(agreed & 1), agreed >> 1

    def _save(self, tracker: Tracker | None) -> None:
        """Write a checkpoint, when all that it counts on is on the disk."""
        slots = self.states.commit()
        self.ranks.agree(0)  # every rank's clients are on the disk
        if tracker is not None:
            tracker.sync()
            self.checkpoints.save(Snapshot(self.t, self.stopped, self.server, self.tail, slots, self.counters))
        self.ranks.agree(0)  # no rank writes over the oldest checkpoint's clients before there is a new one


def _bits(rows: Iterable[Tensor]) -> int:
    return 8 * sum(row.numel() for row in rows)


def _named(error: PayloadError, t: int, clients: list[int]) -> FedsignError:
    who = f"client {clients[error.row]}" if error.row is not None else "a client"
    return FedsignError(f"round {t}, {who}: {error}")


def _under(prefix: str, rows: Rows) -> Rows:
    return {name.removeprefix(prefix): values for name, values in rows.items() if name.startswith(prefix)}


def _rows(values: Tensor) -> list[Tensor]:
    return list(values.contiguous().view(torch.uint8))


def _floats(rows: list[Tensor]) -> Tensor:
    return torch.stack(rows).view(torch.float32)
