"""The config as one validated object: every shared key, its type, its range and the checks across keys.

The group nodes (dataset, partition, model, algorithm, attack) carry a ``_target_``: the options class that states their
own keys. None of this imports torch.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hydra.utils import get_class

from fedsign.errors import ConfigError
from fedsign.options import (
    Fraction,
    Momentum,
    NonNegative,
    Positive,
    PositiveInt,
    Seed,
    closest,
    options,
    validated,
)

if TYPE_CHECKING:
    from fedsign.algorithms.base import Algorithm
    from fedsign.data.dataset import Dataset
    from fedsign.federation.partition import Partition
    from fedsign.models.model import ModelSpec
    from fedsign.robust.attacks import Attack

GROUPS = ("dataset", "partition", "model", "attack", "algorithm")
# Keys that say where, when and beside what a run happens, not what it computes.
NOT_THE_EXPERIMENT = (
    "output", "dry_run", "resume", "checkpoint", "tracking", "report", "experiment", "fidelity", "scale"
)  # fmt: skip
NOT_OF_HARDWARE = ("name", "workers")  # the numbers are the same with any number of workers


@options
class Local:
    """Local training of a client: ``local.*``."""

    epochs: PositiveInt | None
    steps: PositiveInt | None
    batch_size: PositiveInt
    optimizer: Literal["sgd", "adam", "lion"]
    lr: Positive
    lr_decay: Fraction
    momentum: Momentum
    weight_decay: NonNegative
    clip_norm: Positive | None

    def learning_rate(self, round: int) -> float:
        """Local learning rate η of a round, counted from 1: ``lr * lr_decay ** (round - 1)``."""
        return self.lr * self.lr_decay ** (round - 1)

    def steps_of(self, samples: int) -> int:
        """Number of local steps K of a client with that many samples (the last partial batch counts)."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return self.epochs * -(-samples // self.batch_size)


@options
class Eval:
    """Evaluation of the global model: ``eval.*``."""

    every: PositiveInt
    batch_size: PositiveInt
    train: bool
    mu_index: bool


@options
class Stop:
    """Targets at which a run ends early: ``stop.*``."""

    accuracy: Fraction | None
    uplink_bits: Positive | None


@options
class Checkpoint:
    """When checkpoints are written: ``checkpoint.*``, every so many rounds or minutes."""

    every: PositiveInt | None
    minutes: Positive | None


@options
class Hardware:
    """Where a run computes: ``hardware.*``."""

    name: str
    device: str
    workers: PositiveInt | Literal["auto"]
    precision: Literal["f32", "tf32", "bf16"]
    vectorise: bool | Literal["auto"]


@options
class Tracking:
    """Where metrics go besides the CSV files: ``tracking.*``."""

    name: Literal["csv", "wandb"]
    project: str | None = None
    entity: str | None = None
    mode: Literal["auto", "online", "offline"] = "auto"


@options
class Report:
    """How the runs of an experiment are summarised: ``report.*``.

    A key in `rows`, `columns`, `curves` or `panels` is a dotted key of the config, or ``method``.

    Attributes:
        target_accuracy: to which uplink is counted; null: 95 % of the baseline's best.
        method: what a paper calls the method; null: the method's own name.
        kind: ``comparison`` (what a sweep shows); ``table`` (a metric, rows by columns); ``curves`` (y against x over
            the rounds); ``points`` (a metric against a key of the config); or what is computed without runs.
        rows, columns: keys of a table.
        metrics: of a table's cells or of points.
        x, y: of curves, columns of metrics.csv (x also ``total_bits``: uplink + 0.1 downlink); x of points is a key.
        curves: keys that tell curves apart.
        panels: keys whose values have a plot each.
        scales: of the axes, x and y.
        title: what the paper's table or figure shows.
    """

    target_accuracy: Fraction | None
    method: str | None
    kind: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    x: str
    y: str
    curves: tuple[str, ...]
    panels: tuple[str, ...]
    scales: Literal["linear-linear", "log-linear", "linear-log", "log-log"]
    title: str | None


@options
class Shared:
    """The keys at the top level that are plain values."""

    seed: Seed
    rounds: PositiveInt
    clients: PositiveInt
    cohort: PositiveInt
    on_nan: Literal["stop", "drop"]
    resume: Literal["auto", "never"]
    dry_run: bool
    output: str
    experiment: str | None
    fidelity: Literal["published", "text"] = "published"
    scale: Literal["full", "small", "smoke"] = "full"


SECTIONS: dict[str, type] = {
    "local": Local,
    "eval": Eval,
    "stop": Stop,
    "checkpoint": Checkpoint,
    "hardware": Hardware,
    "tracking": Tracking,
    "report": Report,
}

VALUES_ONLY = ("local", "eval", "stop", "checkpoint", "report")  # sections without choices


class Config:
    """One validated run.

    Attributes:
        resolved: the plain nested dict that is written to ``config.yaml``.
        local, eval, stop, checkpoint, hardware, tracking, report: the sections.
        dataset, partition, model, algorithm, attack: what the group nodes describe.
    """

    local: Local
    eval: Eval
    stop: Stop
    checkpoint: Checkpoint
    hardware: Hardware
    tracking: Tracking
    report: Report
    dataset: Dataset
    partition: Partition
    model: ModelSpec
    algorithm: Algorithm
    attack: Attack

    def __init__(self, resolved: Mapping[str, Any]):
        """Validate a resolved config.

        Raises:
            ConfigError: one line that names the key, the value and what is allowed.
        """
        self.resolved = dict(copy.deepcopy(resolved))
        plain = {k: v for k, v in self.resolved.items() if k not in SECTIONS and k not in GROUPS}
        shared = validated(Shared, plain)
        self.seed, self.rounds, self.cohort = shared.seed, shared.rounds, shared.cohort
        self.on_nan, self.resume, self.dry_run = shared.on_nan, shared.resume, shared.dry_run
        self.output, self.experiment = Path(shared.output), shared.experiment
        for name, cls in SECTIONS.items():
            setattr(self, name, validated(cls, self._node(name), f"{name}."))
        for name in GROUPS:
            setattr(self, name, build(self._node(name), f"{name}."))
        self.clients = self.dataset.fixed_clients() or shared.clients
        self._clients_known = self.dataset.fixed_clients() is not None or not self.partition.by_owner
        self._check()

    def _node(self, name: str) -> dict[str, Any]:
        node = self.resolved.get(name)
        if not isinstance(node, dict):
            what = (
                f"a choice of the config group '{name}'" if name not in VALUES_ONLY else f"set key by key, {name}.KEY"
            )
            raise ConfigError(f"{name}={node}: must be {what}")
        return node

    @property
    def method(self) -> str:
        """What a paper calls the method, else its own name."""
        return self.report.method or self.algorithm.title

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that two runs share if and only if they are the same experiment."""
        return fingerprint(self.resolved)

    def set_clients(self, clients: int) -> None:
        """Take the number of clients from the data. Raises ConfigError if the cohort is larger."""
        self.clients = clients
        self._check_cohort()

    def _check_cohort(self) -> None:
        if self.cohort > self.clients:
            raise ConfigError(f"cohort={self.cohort}: must be at most the number of clients, clients={self.clients}")
        self.attack.attackers(self.seed, self.clients)

    def _check(self) -> None:
        local = self.local
        if (local.epochs is None) == (local.steps is None):
            given = f"local.epochs={_null(local.epochs)} local.steps={_null(local.steps)}"
            raise ConfigError(f"{given}: exactly one of the two must be set, the other null")
        if local.momentum and local.optimizer != "sgd":
            raise ConfigError(f"local.momentum={local.momentum:g}: must be 0 with local.optimizer={local.optimizer}")
        if self._clients_known:
            self._check_cohort()
        _check_hardware(self.hardware)
        self.dataset.check()
        self.model.check(self.dataset)
        if not self.dataset.fixed_clients():
            self.partition.check(self.dataset, self.clients)
        self.algorithm.check(self)
        self.attack.check(self)


def build(node: Mapping[str, Any], prefix: str) -> Any:
    """Turn a config node with a ``_target_`` into the options object it names (the one place that does)."""
    values = dict(node)
    target = values.pop("_target_", None)
    try:
        cls = get_class(str(target))
    except Exception as error:
        raise ConfigError(f"{prefix}_target_={target}: must name an importable class ({error})") from None
    return validated(cls, values, prefix)


def fingerprint(resolved: Mapping[str, Any]) -> str:
    """Hash of what a resolved config computes; where and when it runs is left out."""
    science = {k: v for k, v in resolved.items() if k not in NOT_THE_EXPERIMENT}
    if isinstance(hardware := science.get("hardware"), Mapping):
        science["hardware"] = {k: v for k, v in hardware.items() if k not in NOT_OF_HARDWARE}
    text = json.dumps(science, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differing_keys(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The dotted keys in which two resolved configs describe different experiments."""
    left, right = flat(ours), flat(theirs)
    keys = sorted(k for k in left.keys() | right.keys() if left.get(k) != right.get(k))
    other = {k.split(".")[0] for k in keys if k.endswith(".name")}  # another choice of a group: its name says it all
    told = (k for k in keys if k.endswith(".name") or k.split(".")[0] not in other)
    return [k for k in told if k.split(".")[0] not in NOT_THE_EXPERIMENT]


def flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config as dotted key to value."""
    out: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


def _check_hardware(hardware: Hardware) -> None:
    kind, _, index = hardware.device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        hint = closest(kind, ("cpu", "cuda"))
        raise ConfigError(f"hardware.device={hardware.device}: must be cpu, cuda or cuda:N{hint}")
    if kind == "cuda" and _cuda_devices() <= int(index or 0):
        found = _cuda_devices()
        here = f"{found} CUDA device(s) here" if found else "there is no CUDA device here"
        raise ConfigError(f"hardware.device={hardware.device}: {here}; hardware.device=cpu always works")
    if kind == "cuda" and hardware.workers not in (1, "auto"):
        raise ConfigError(
            f"hardware.workers={hardware.workers}: must be 1 or auto with hardware.device={hardware.device}; "
            "start several GPUs with torchrun --nproc-per-node=GPUS -m fedsign hardware=multi_gpu ..."
        )
    if hardware.precision == "tf32" and kind == "cpu":
        raise ConfigError("hardware.precision=tf32: needs a CUDA device; on a CPU use f32 or bf16")


def _cuda_devices() -> int:
    """Number of CUDA devices, asked of the driver directly: torch is not loaded yet."""
    import ctypes

    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _null(value: object) -> object:
    return "null" if value is None else value
