"""What W&B's offline files hold."""

import json
import struct

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, FULL, LAST = 32768, 1, 4  # a .wandb file is a log of blocks, as LevelDB writes it


def records(path):
    data, at, message = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := BLOCK - at % BLOCK) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        message += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (FULL, LAST):
            yield Record.FromString(message)
            message = b""


def values(items):
    return {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}


def sessions(run):
    """Run id and logged steps of every offline session of a run, in order."""
    found = []
    for path in sorted(run.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        kept = list(records(path))
        ids = {record.run.run_id for record in kept if record.WhichOneof("record_type") == "run"}
        rows = [values(record.history.item) for record in kept if record.WhichOneof("record_type") == "history"]
        found.append((ids, [row["_step"] for row in rows], rows))
    return found
