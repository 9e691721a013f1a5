"""What passes between the ranks of a run, and what every one of them holds: the table of docs/scaling.md.

Computed from a dry run of every method; nothing is trained and no data are needed. ``python scripts/scaling.py``
prints it.
"""

from __future__ import annotations

import tempfile

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fedsign import cli, presets
from fedsign.config import Config
from fedsign.dry_run import dry_run

COHORT, RANKS = 10, (2, 8)
SETTING = ("dataset=cifar10", "model=cnn8", "clients=100", f"cohort={COHORT}")
HEADER = [
    "`algorithm=`",
    "a client sends",
    *(f"a rank receives, {r} ranks" for r in RANKS),
    "server's state",
    "a client's state",
]


def row(method: str) -> list[str]:
    """Bytes of one method: per client, per rank and round, replicated, and on disk."""
    cli.register_resolvers()
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(presets.conf_folder()), version_base="1.3"):
        given = [*SETTING, f"algorithm={method}", f"dataset.root={folder}", f"output={folder}"]
        config = Config(OmegaConf.to_container(compose("config", given), resolve=True))
        summary = dry_run(config)
    sent = sum(summary["bits_per_round"]["uplink_per_client"].values()) / 8
    received = [sent * COHORT * (1 - 1 / ranks) for ranks in RANKS]
    held = summary["server_values"] * 4, len(config.algorithm.client_state) * summary["coded"] * 4
    return [f"`{method}`", *(size(b) for b in (sent, *received, *held))]


def size(octets: float) -> str:
    """Bytes with a decimal prefix."""
    for prefix in ("", "k", "M"):
        if octets < 1000 or prefix == "M":
            return f"{octets:.3g} {prefix}B" if octets else "0"
        octets /= 1000
    raise AssertionError


def table() -> str:
    """The Markdown table of all methods."""
    methods = sorted(path.stem for path in (presets.conf_folder() / "algorithm").glob("*.yaml"))
    lines = [HEADER, ["---"] * len(HEADER), *(row(method) for method in methods)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    print(table())
