"""Speed of FedSMU's rounds beside a plain loop and beside the bare arithmetic, in one run: ``make bench``.

Work: CIFAR-10 shapes, 100 clients of 500 samples, 10 a round, 5 epochs, batches of 50: 500 SGD steps of LeNet
64-64-384-192 a round. The images are random: the time does not depend on them.

Each way runs in a process of its own, and the repetitions take turns, so that a slow minute hits all of them. The
first round of a process warms up and is not counted. Peak memory is the proportional set size of all its processes.
Writes results/bench/<date>.json and .png.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import bench_ways
from bench_ways import WORK

ROOT = Path(__file__).parents[1]
SAMPLING = 0.1  # seconds between two looks at the memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3, help="processes per way (default 3)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds per process; the first warms up (default 2)")
    parser.add_argument("--ways", default=",".join(bench_ways.WAYS), help="which to measure (default all)")
    parser.add_argument("--only", choices=[*bench_ways.WAYS, *bench_ways.EXTRAS], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        measure = (bench_ways.WAYS | bench_ways.EXTRAS)[arguments.only]
        print(json.dumps(measure(arguments.rounds)))
        return
    ways = arguments.ways.split(",")
    found: dict[str, list[dict]] = {way: [] for way in ways}
    for repetition in range(arguments.repetitions):
        for way in ways:
            if way in bench_ways.ONCE and repetition:
                continue
            found[way].append(run(way, arguments.rounds))
            seconds = statistics.median(found[way][-1]["seconds"])
            print(f"{repetition + 1}/{arguments.repetitions}  {way:<16} {seconds:6.2f} s", file=sys.stderr)
    extras = {name: run(name, arguments.rounds) for name in bench_ways.EXTRAS}
    report(found, extras)


def run(way: str, rounds: int) -> dict:
    """What a way prints, in a process of its own, with the peak memory of all its processes."""
    command = [sys.executable, __file__, "--only", way, "--rounds", str(rounds)]
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    peak = [0.0]
    watching = threading.Thread(target=watch, args=(process.pid, peak), daemon=True)
    watching.start()
    out, err = process.communicate()
    if process.returncode:
        sys.exit(f"{way} failed:\n{err}")
    return json.loads(out.splitlines()[-1]) | {"peak_mib": round(peak[0])}


def watch(pid: int, peak: list[float]) -> None:
    """Keep the largest proportional set size, MiB, of a process and its descendants, that two looks in a row see.

    A process that is starting a command shares its memory with the child until that runs, and both count all of it.
    """
    before = 0.0
    while Path(f"/proc/{pid}").exists():
        now = sum(proportional_set_size(p) for p in tree(pid))
        peak[0] = max(peak[0], min(before, now))
        before = now
        time.sleep(SAMPLING)


def tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(p for child in children for p in tree(int(child)))]


def proportional_set_size(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def report(found: dict[str, list[dict]], extras: dict[str, dict]) -> None:
    """Print the ratios; write the numbers and the chart."""
    import torch

    from fedsign.tracking.environment import describe

    medians = {way: statistics.median(s for r in runs for s in r["seconds"]) for way, runs in found.items()}
    counts = {way: sum(len(r["seconds"]) for r in runs) for way, runs in found.items()}
    peaks = {way: max(r["peak_mib"] for r in runs) for way, runs in found.items()}
    phases = {way: runs[-1]["phases"] for way, runs in found.items() if "phases" in runs[-1]}
    print(f"{WORK}\n{platform.platform()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print(f"{'one round':<16} {'median s':>8} {'n':>3} {'x plain':>8} {'of bare':>8} {'peak MiB':>9}")
    for way, median in medians.items():
        limit = medians.get("bare bf16" if "bf16" in way else "bare")
        plain = f"{medians['plain'] / median:8.2f}" if "plain" in medians else " " * 8
        bare = f"{median / limit:8.2f}" if limit else " " * 8
        print(f"{way:<16} {median:8.2f} {counts[way]:3d} {plain} {bare} {peaks[way]:9.0f}")
    for way, parts in phases.items():
        told = "  ".join(f"{phase} {1000 * s:.1f}" for phase, s in parts.items())
        print(f"phases of {way}, ms a round: {told}")
    for name, values in extras.items():
        print(f"{name}: " + "  ".join(f"{key} {value:g}" for key, value in values.items()))
    path = ROOT / "results" / "bench" / f"{datetime.date.today()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    workers = torch.get_num_threads()
    result = {"workload": WORK, "medians": medians, "n": counts, "peak_mib": peaks, "phases": phases, "extras": extras}
    result |= {"runs": found, "command": "make bench"} | describe(torch.device("cpu"), workers)
    path.write_text(json.dumps(result, indent=1) + "\n")
    chart(medians, counts, phases, path.with_suffix(".png"))
    print(f"written  {path.relative_to(ROOT)} and .png")


def chart(medians: dict[str, float], counts: dict[str, int], phases: dict[str, dict], path: Path) -> None:
    """A bar per way, and where the time of a round goes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 0.45 * len(medians) + 2), width_ratios=[3, 2])
    colours = ["0.6" if way.split()[0] in ("plain", "bare") else "tab:blue" for way in medians]
    bars = left.barh([f"{way}  (n={counts[way]})" for way in medians], list(medians.values()), color=colours)
    left.bar_label(bars, fmt="%.2f s", padding=3)
    left.invert_yaxis()
    left.set_xlabel("seconds a round, median")
    left.set_xlim(0, 1.15 * max(medians.values()))
    left.set_title("FedSMU, LeNet, CIFAR-10 shapes: 500 SGD steps", loc="left", fontsize=10)
    way, parts = next(((w, p) for w, p in phases.items() if "workers" in w), ("", {}))
    small = {name: 1000 * seconds for name, seconds in parts.items() if name != "train"}
    bars = right.barh(list(small), list(small.values()), color="tab:blue")
    right.bar_label(bars, fmt="%.1f ms", padding=3)
    right.invert_yaxis()
    right.set_xlim(0, 1.25 * max(small.values(), default=1))
    right.set_xlabel("milliseconds a round")
    right.set_title(f"{way}: beside training ({parts.get('train', 0):.2f} s)", loc="left", fontsize=10)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    fig.tight_layout()
    fig.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
