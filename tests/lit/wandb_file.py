"""Reads the records of an offline W&B run: a LevelDB log, whose messages the library's own protobuf classes parse.

Written from https://github.com/google/leveldb/blob/main/doc/log_format.md: W&B's Python package has no reader.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK = 32 * 1024
# checksum, length, type
RECORD_HEADER = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
FILE_HEADER_BYTES = 7


@dataclass
class OfflineRun:
    """What `wandb sync` would send."""

    run: Any = None
    """The message that makes the run: id, group, tags, configuration."""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    """Definitions of metrics by name or pattern."""
    exit_code: int | None = None


def read_offline_run(folder: Path) -> OfflineRun:
    """The run in a folder offline-run-<time>-<id>."""
    (file,) = folder.glob("run-*.wandb")
    found = OfflineRun()
    for message in _messages(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(message)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.run = record.run
            found.config.update({item.key: json.loads(item.value_json) for item in record.run.config.update})
        elif kind == "history":
            found.history.append(_items(record.history.item))
        elif kind == "summary":
            found.summary.update(_items(record.summary.update))
        elif kind == "metric":
            found.metrics[record.metric.name or record.metric.glob_name] = record.metric
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    return found


def _items(items: Any) -> dict[str, Any]:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def _messages(content: bytes) -> list[bytes]:
    assert content[:4] == b":W&B"
    messages, part = [], b""
    place = FILE_HEADER_BYTES
    while place + RECORD_HEADER.size <= len(content):
        left = BLOCK - place % BLOCK
        if left < RECORD_HEADER.size:
            place += left
            continue
        _, length, kind = RECORD_HEADER.unpack_from(content, place)
        place += RECORD_HEADER.size
        part += content[place : place + length]
        place += length
        if kind in (FULL, LAST):
            messages.append(part)
            part = b""
    return messages
