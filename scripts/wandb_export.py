"""Write the runs that are on W&B, or in its offline files, as run directories that fedsign-report reads.

python scripts/wandb_export.py ENTITY/PROJECT FOLDER [--group EXPERIMENT]
python scripts/wandb_export.py OFFLINE_FOLDER FOLDER [--group EXPERIMENT]
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fedsign.tracking.offline import records
from fedsign.tracking.run_directory import CONFIG_HEADER, HYDRA

FIRST = ("round", "uplink_bits", "uplink_bits_formula", "downlink_bits", "test_accuracy", "test_loss", "train_loss")


@dataclass
class Logged:
    """A run as W&B has it: its name, config, summary, a row per round, and whether it ended well."""

    name: str = ""
    group: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    finished: bool = False

    def add(self, row: Mapping[str, Any]) -> None:
        """A row of the history; W&B's own columns begin with an underscore."""
        if row.get("round") is not None:
            self.rows[int(row["round"])] = {k: v for k, v in row.items() if not k.startswith("_") and v is not None}


def online(project: str, group: str | None, api: Any = None) -> Iterator[Logged]:
    """The runs of ENTITY/PROJECT."""
    if api is None:
        import wandb

        api = wandb.Api()
    for run in api.runs(project, filters={"group": group} if group else None):
        logged = Logged(f"{run.name}-{run.id}", run.group or "", dict(run.config), dict(run.summary))
        for row in run.scan_history():
            logged.add(row)
        logged.finished = run.state == "finished"
        yield logged


def offline(folder: Path, group: str | None) -> Iterator[Logged]:
    """The runs in the offline files at any depth below a folder; one that was interrupted has several."""
    runs: dict[str, Logged] = {}
    for path in sorted(folder.rglob("run-*.wandb"), key=lambda path: path.parent.name):
        logged = runs.setdefault(path.stem, Logged())
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                logged.name, logged.group = f"{record.run.display_name}-{record.run.run_id}", record.run.run_group
                logged.config |= _values(record.run.config.update)
            elif kind == "history":
                logged.add(_values(record.history.item))
            elif kind == "summary":
                logged.summary |= _values(record.summary.update)
            elif kind == "exit":
                logged.finished = record.exit.exit_code == 0
    yield from (logged for logged in runs.values() if group in (None, logged.group))


def write(logged: Logged, folder: Path) -> Path | None:
    """Write a finished run's directory; None for one that did not finish, or is no run of fedsign."""
    if not logged.finished or not logged.rows or "algorithm" not in logged.config:
        return None
    path = folder / logged.name.replace("/", "_")
    path.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in logged.config.items() if not key.startswith("_")}
    body = yaml.safe_dump(config | {"hydra": HYDRA}, sort_keys=False, allow_unicode=True)
    (path / "config.yaml").write_text(CONFIG_HEADER + body)
    rows = [logged.rows[t] for t in sorted(logged.rows)]
    names = {name: None for row in rows for name in row}
    with (path / "metrics.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, [*(n for n in FIRST if n in names), *(n for n in names if n not in FIRST)])
        table.writeheader()
        table.writerows(rows)
    kept = {key: value for key, value in logged.summary.items() if isinstance(value, str | int | float)}
    known = {"status": "finished", "seed": config["seed"], "cohort": config["cohort"], "source": "W&B"}
    (path / "summary.json").write_text(json.dumps(known | {"overrides": []} | kept, indent=2) + "\n")
    return path


def _values(items: Any) -> dict[str, Any]:
    return {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="ENTITY/PROJECT, or a folder with offline runs")
    parser.add_argument("folder", type=Path, help="where to write; then fedsign-report --runs FOLDER")
    parser.add_argument("--group", help="only runs of this experiment")
    arguments = parser.parse_args()
    here = Path(arguments.source)
    runs = offline(here, arguments.group) if here.is_dir() else online(arguments.source, arguments.group)
    written = [write(logged, arguments.folder) for logged in runs]
    print(f"{len([path for path in written if path])} runs written to {arguments.folder}", end="")
    print(f", {written.count(None)} unfinished left out" if None in written else "")


if __name__ == "__main__":
    main()
