"""The last lines of a log file, and those that come, over its rotation."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

POLL_S = 0.2
BLOCK = 65_536
MAX_BYTES = 16_000_000


def last_lines(path: Path, count: int) -> list[str]:
    """The newest `count` lines, oldest first; none when there is no file."""
    if not count or not path.exists():
        return []
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        start, tail = end, b""
        while start and tail.count(b"\n") <= count and len(tail) < MAX_BYTES:
            start = max(0, start - BLOCK)
            file.seek(start)
            tail = file.read(end - start)
    return [line.decode(errors="replace") for line in tail.splitlines()[-count:]]


def followed(path: Path) -> Iterator[str]:
    """Lines that are written from now on, for ever; a file that is rotated, cut or made later is read from its start."""
    now = path.stat() if path.exists() else None
    return _followed(path, now.st_ino if now else 0, now.st_size if now else 0)


def _followed(path: Path, inode: int, position: int) -> Iterator[str]:
    rest = b""
    while True:
        if path.exists():
            with path.open("rb") as file:
                state = os.fstat(file.fileno())
                if state.st_ino != inode or state.st_size < position:
                    inode, position, rest = state.st_ino, 0, b""
                file.seek(position)
                fresh = file.read()
            position += len(fresh)
            *lines, rest = (rest + fresh).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")
        time.sleep(POLL_S)
