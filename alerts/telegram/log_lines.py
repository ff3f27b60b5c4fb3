"""The newest warnings and errors of all processes, from their JSON log files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

READ_BYTES = 400_000
"""How much of the end of each file is looked at."""

LEVELS = frozenset({"warning", "error", "critical"})
NOT_CONTEXT = frozenset({"event", "level", "timestamp", "service", "exception"})


def newest_troubles(directory: Path, count: int) -> list[str]:
    """The newest `count` lines of level warning and above, oldest first; reads files, so call it in a thread."""
    found = [entry for path in sorted(directory.glob("*.log")) for entry in _entries(path)]
    found.sort(key=lambda entry: str(entry.get("timestamp", "")))
    return [_words(entry) for entry in found[-count:]]


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - READ_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return  # rotated away in this moment: its successor is read too
    for line in lines:
        try:
            entry = msgspec.json.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue  # the first line is cut, and others than ours may write there
        if isinstance(entry, dict) and entry.get("level") in LEVELS:
            yield entry


def _words(entry: dict[str, Any]) -> str:
    context = " ".join(f"{name}={value}" for name, value in entry.items() if name not in NOT_CONTEXT)
    when = str(entry.get("timestamp", ""))[11:19]
    return f"{when} {entry['level']} {entry.get('service', '')}: {entry.get('event', '')} {context}"[:400].rstrip()
