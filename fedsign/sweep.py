"""What a sweep leaves behind: a record per job, and at its end a report and the names of failed jobs."""

from __future__ import annotations

import json
import multiprocessing
import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from fedsign import job
from fedsign.durable import write_text
from fedsign.errors import FedsignError, InputError
from fedsign.interrupt import Interrupted, Interrupts
from fedsign.tracking.run_directory import ENDED, FAILURE, remove_if_empty

interrupts = Interrupts(pass_on=True)  # of the command; the jobs may be in child processes


def run_job(resolved: dict[str, Any]) -> float | None:
    """Run one job of a sweep; a failure is recorded and does not stop the others.

    Returns:
        Best accuracy, or None (what Hydra's sweepers optimise).

    Raises:
        Interrupted: by a signal. A child process that runs jobs skips those that are left instead: what it raised
            would have its siblings killed before they have saved their rounds. It does so too if its parent is dead.
    """
    child = multiprocessing.parent_process() is not None
    if child:
        interrupts.remember()  # between the jobs too
    if interrupts.received is not None or interrupts.orphaned:
        remove_if_empty(Path(resolved["output"]))
        return None
    hydra = HydraConfig.get()
    record: dict[str, Any] = {"output": str(Path(resolved["output"]).absolute())}
    record["overrides"] = list(hydra.overrides.task)
    try:
        summary = job.run(resolved)
        record["status"] = summary.get("status")
        record["output"] = str(Path(summary.get("output", record["output"])).absolute())
    except Interrupted as interrupted:
        if not child:
            raise
        interrupts.received = interrupted.number
        return None
    except FedsignError as error:
        record |= {
            "status": "failed",
            "error": str(error),
            "config": isinstance(error, InputError),
        }
        print(f"fedsign: error: {error}", file=sys.stderr)
        remove_if_empty(Path(record["output"]))
        summary = {}
    except Exception as error:
        record |= {"status": "failed", "error": f"{type(error).__name__}: {error}", "config": False}
        Path(record["output"]).mkdir(parents=True, exist_ok=True)
        write_text(Path(record["output"]) / FAILURE, traceback.format_exc())
        print(f"fedsign: error: {record['error']}; the traceback is in {FAILURE}", file=sys.stderr)
        summary = {}
    folder = Path(hydra.sweep.dir) / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{int(hydra.job.num):04d}.json", json.dumps(record, indent=2) + "\n")
    return summary.get("best_accuracy")


class SweepReport(Callback):
    """Closes a sweep: the table and the plot of its runs, or where a paper's item is told; and the jobs that failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Report; the exit status is 1 if a job failed, 2 if all that failed did so for their config.

        Raises:
            Interrupted: the jobs that were left were skipped.
        """
        if interrupts.received is not None:
            raise Interrupted(interrupts.received)
        folder = Path(config.hydra.sweep.dir)
        records = [json.loads(path.read_text()) for path in sorted((folder / "jobs").glob("*.json"))]
        done = [Path(record["output"]) for record in records if record["status"] in ENDED]
        if done and config.report.kind != "comparison":
            print(f"{len(done)} runs are there; beside the paper's numbers: fedsign-report {config.experiment}")
        elif done:
            from fedsign.report.summary import report

            print(report(done, folder))
        failed = [record for record in records if record["status"] == "failed"]
        if len(failed) == len(records) > 1 and len({record["error"] for record in failed}) == 1:
            print(f"failed: all {len(failed)} jobs: {failed[0]['error']}", file=sys.stderr)
        else:
            for record in failed:
                print(f"failed: {' '.join(record['overrides'])}: {record['error']}", file=sys.stderr)
        if failed:
            raise SystemExit(2 if all(record["config"] for record in failed) else 1)
