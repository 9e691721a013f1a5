"""What a killed process has left in W&B's offline files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER, BLOCK = 7, 32768  # a .wandb file is a log of blocks, as LevelDB writes it
FULL, FIRST, LAST = 1, 2, 4


def last_step(folder: Path, identity: str) -> int:
    """The last step in the history that the offline files of a run's folder hold; 0 if there is none."""
    last = 0
    for path in folder.glob(f"wandb/offline-run-*-{identity}/run-{identity}.wandb"):
        for record in records(path):
            if record.WhichOneof("record_type") == "history":
                last = max(last, record.history.step.num)
    return last


def records(path: Path) -> Iterator[Any]:
    """W&B's records in an offline file, up to where it was cut."""
    from wandb.proto.wandb_internal_pb2 import Record

    for message in _messages(path.read_bytes()):
        try:
            yield Record.FromString(message)
        except Exception:  # the parser's own class; a cut record ends a file
            return


def _messages(data: bytes) -> Iterator[bytes]:
    """The records of a log, up to where it was cut."""
    at, message = HEADER, b""
    while at + HEADER <= len(data):
        if (left := BLOCK - at % BLOCK) < HEADER:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        part = data[at + HEADER : at + HEADER + length]
        if len(part) < length or kind not in range(FULL, LAST + 1):
            return
        message = part if kind in (FULL, FIRST) else message + part
        if kind in (FULL, LAST):
            yield message
        at += HEADER + length
