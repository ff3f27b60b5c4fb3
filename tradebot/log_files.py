"""Bounded output files: what children print must not fill the disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

KEPT_BYTES = 1_000_000


def cut_when_long(path: Path, limit_bytes: int) -> None:
    """Empty a file over `limit_bytes` while its writer goes on; its last megabyte is kept in `<path>.1`.

    Writers have it open for appending, so after the cut they go on at the start. The services' own rotating logs keep what
    is lost here. A full disk leaves things as they are.
    """
    with contextlib.suppress(OSError):
        size = path.stat().st_size
        if size > limit_bytes:
            with path.open("rb") as file:
                file.seek(max(0, size - KEPT_BYTES))
                tail = file.read(KEPT_BYTES)
            path.with_name(path.name + ".1").write_bytes(tail)
            os.truncate(path, 0)
