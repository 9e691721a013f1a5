"""The command ``fedsign plan``."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from fedsign import presets
from fedsign.config import Config
from fedsign.errors import ConfigError
from fedsign.tracking.progress import bits_text
from fedsign.tracking.run_directory import ENDED, RUNS, read_summary

if TYPE_CHECKING:
    from fedsign.plan.timing import Speed
    from fedsign.plan.work import Work

SECONDS = 10.0  # of measurement
WIDTH = 136  # characters of the table at least; a narrower terminal wraps its lines
MOST_CLASSES = 16  # that are measured each on its own
HELP = """\
fedsign plan: what a preset or a command would cost, before it is run. Trains nothing and writes nothing.

  fedsign plan +experiment=PAPER/ITEM [key=value ...]   all runs of a preset
  fedsign plan [key=value ...]                          one run; several values of a key are several runs

Prints the number of runs, and how many are finished under outputs/; client steps (rounds x cohort x local steps); the
uplink, from the length of the messages; the time on this machine, from about ten seconds of training on random samples
with the workers that a run would have; and an estimate for one GPU. The data need not be here: clients are then taken
to be of equal sizes."""


def main(arguments: Sequence[str]) -> None:
    """Print the plan.

    Args:
        arguments: after ``fedsign plan``.

    Raises:
        FedsignError: an unknown preset or a wrong value.
        HydraException, OmegaConfBaseException: a wrong override.
    """
    if not {"-h", "--help"}.isdisjoint(arguments):
        print(HELP)
        return
    item, overrides = None, []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name.lstrip("+") == "experiment":
            item = value
        elif argument.startswith("-") and argument not in ("-m", "--multirun"):
            raise ConfigError(f"{argument}: no such option; see fedsign plan --help")
        elif not argument.startswith("-"):
            overrides.append(argument)
    jobs = presets.jobs(item, overrides)
    distinct = {job.key(): Config(job.config) for job in jobs}
    configs = [config for config in distinct.values() if not config.dry_run]
    title = f"{item or 'plan'}: {len(jobs)} runs" if len(jobs) > 1 else f"{item or 'plan'}: 1 run"
    if len(distinct) < len(jobs):
        title += f", {len(distinct)} of them distinct"
    if not configs:
        print(f"{title}; dry runs, which train nothing")
        return
    _print(title, configs)


def finished() -> set[str]:
    """Fingerprints of the finished runs under ``outputs/``."""
    summaries = (read_summary(path.parent) for path in RUNS.rglob("summary.json"))
    return {str(s.get("fingerprint")) for s in summaries if s.get("status") in ENDED}


def _print(title: str, configs: list[Config]) -> None:
    from fedsign.plan.work import Survey  # torch, after all values have been looked at

    survey, done = Survey(), finished()
    works = [survey.work(config) for config in configs]
    left = [work.config.fingerprint not in done for work in works]
    here, gpu, how = _speeds(works)
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False, padding=(0, 2))
    for name in ("method", "runs", "to run", "client steps", "uplink of a run", "uplink", "time here", "on a GPU"):
        table.add_column(name, justify="left" if name == "method" else "right")
    everything = range(len(works))
    by_method: dict[str, list[int]] = {}
    for i in everything:
        by_method.setdefault(works[i].method, []).append(i)
    for method, chosen in [*by_method.items(), *([("all", [*everything])] if len(by_method) > 1 else [])]:
        if method == "all":
            table.add_section()
        some = [i for i in chosen if left[i]]
        uplinks = sorted({works[i].uplink for i in chosen})
        table.add_row(
            method,
            f"{len(chosen)}",
            f"{len(some)}",
            f"{sum(works[i].steps for i in chosen):,.0f}",
            " to ".join(bits_text(bits) for bits in [uplinks[0], *uplinks[1:][-1:]]),
            uplink_text(sum(works[i].uplink for i in chosen)),
            time_text(sum(here[i].of(works[i]) for i in some)),
            time_text(sum(gpu[i].of(works[i]) for i in some)),
        )
    console = Console(width=max(WIDTH, shutil.get_terminal_size().columns), soft_wrap=True)
    console.print(table)
    for line in [*_notes(works), *how]:
        console.print(line, highlight=False)


def _notes(works: list[Work]) -> list[str]:
    """What the counts rest on."""
    lines = ["Steps and uplink are of all runs, times of those that are still to run."]
    assumed = sorted({work.config.dataset.name for work in works if work.assumed})
    if assumed:
        lines.append(f"Not here: {', '.join(assumed)}. Their clients are taken to be of equal sizes.")
    if any(work.config.stop.accuracy or work.config.stop.uplink_bits for work in works):
        lines.append("Runs that stop at a target (stop.*) may end earlier.")
    return lines


def _speeds(works: list[Work]) -> tuple[list[Speed], list[Speed], list[str]]:
    """The speed of every run here and on a GPU, and how they were found."""
    from fedsign.plan import timing
    from fedsign.plan.work import groups_of_cost

    started = time.monotonic()
    shapes = groups_of_cost(works, precise=False)
    classes = groups_of_cost(works, precise=True)
    told = "each method, model and batch size"
    if len(classes) > MOST_CLASSES:
        told = f"one method for each model and batch size ({len(classes)} combinations are too many)"
        classes = shapes
    counted = {i: timing.arithmetic(works[same[0]].config) for same in shapes.values() for i in same}
    here: dict[int, Speed] = {}
    for same in classes.values():
        speed = timing.measure(works[same[0]], counted[same[0]], SECONDS / len(classes))
        here |= dict.fromkeys(same, speed)
    gpu = [timing.on_a_gpu(work.config, counted[i]) for i, work in enumerate(works)]
    device = works[0].config.hardware.device
    took = time.monotonic() - started
    how = [
        f"Time here ({device}): measured for {took:.0f} s on random samples, {told}; one run after the other.",
        f"On a GPU: an estimate, not measured, for one H100 at {timing.GPU_RATE / 1e12:.0f} TFLOP/s in float32 and "
        f"{timing.GPU_LAUNCH * 1e6:.0f} us for each operation of a step, clients one after the other.",
    ]
    return [here[i] for i in range(len(works))], gpu, how


def uplink_text(bits: int) -> str:
    """Bits in both of their usual forms: ``8 Gbit = 1 GB``."""
    byte = bits / 8
    for prefix in ("", "k", "M", "G", "T"):
        if byte < 1000 or prefix == "T":
            break
        byte /= 1000
    return f"{bits_text(bits)} = {byte:.3g} {prefix}B"


def time_text(seconds: float) -> str:
    """A duration as a person says it: ``40 s``, ``3.5 min``, ``2.1 h``, ``12 days``."""
    if seconds < 1:
        return "0 s" if seconds == 0 else "< 1 s"
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} s"
