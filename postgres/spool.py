"""What the recorder keeps on disk while PostgreSQL is away: bounded, in order, durable before it is acknowledged."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import structlog

from runtime.append_log import AppendLog, AppendLogError, framed, read_records

log = structlog.get_logger(__name__)

SEGMENT_BYTES = 8 * 1024 * 1024


class SpoolFull(Exception):
    """Nothing of the batch was spooled: the cap is reached, or the disk refuses."""


class Spool:
    """A queue of records in segment files; the oldest are taken first, and forgotten only when the caller says so.

    A segment is deleted when all of it is done. A crash in between presents the segment's records again from its start, so storing
    them must be repeatable. One process at a time: a second one gets AppendLogError.
    """

    def __init__(self, directory: Path, cap_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self.cap_bytes = cap_bytes
        self._segment_bytes = min(segment_bytes, max(1, cap_bytes // 4))
        self.damaged_segments = 0
        self._lock = AppendLog(directory / "lock")
        found = sorted(directory.glob("*.spool"))
        self._next_number = int(found[-1].stem) + 1 if found else 1
        self._segments = deque((path, path.stat().st_size) for path in found if path.stat().st_size)
        self._bytes = sum(size for _, size in self._segments)
        self._writer: AppendLog | None = None
        self._reader: Iterator[bytes] | None = None
        self._taken: list[bytes] = []
        self._limit = 1

    @property
    def empty(self) -> bool:
        return not self._segments

    @property
    def size_bytes(self) -> int:
        """On disk now; what is done of the first segment still counts."""
        return self._bytes

    def append(self, payloads: Sequence[bytes]) -> None:
        """Put records at the end, on the disk before this returns; all of them or, with SpoolFull, none."""
        size = sum(len(framed(payload)) for payload in payloads)
        if self._bytes + size > self.cap_bytes:
            raise SpoolFull(f"{self._directory} holds {self._bytes} bytes, its cap is {self.cap_bytes}; raise recorder.spool_mb")
        if not payloads:
            return
        try:
            if self._writer is None:
                self._writer = self._new_segment()
            self._writer.append_many(payloads)
        except OSError as error:
            raise SpoolFull(f"{self._directory}: {error}") from error
        path, before = (
            self._segments.pop() if self._segments and self._segments[-1][0] == self._writer.path else (self._writer.path, 0)
        )
        self._segments.append((path, before + size))
        self._bytes += size
        if before + size >= self._segment_bytes:
            self._seal()

    def take(self, limit: int) -> list[bytes]:
        """The oldest records, at most `limit` and of one segment; the same ones again until `done()`."""
        self._limit = limit
        while not self._taken and self._segments:
            path, _ = self._segments[0]
            if self._writer is not None and self._writer.path == path:
                self._seal()  # what is read is never written to any more
            if self._reader is None:
                self._reader = read_records(path)
            try:
                self._taken = list(islice(self._reader, limit))
            except AppendLogError as error:
                self._set_aside(path, error)
                continue
            if not self._taken:
                path.unlink()
                self._forget_first_segment()
        return self._taken

    def done(self) -> None:
        """What `take` returned is stored elsewhere. Looks ahead, so that `empty` tells the truth at once."""
        self._taken = []
        self.take(self._limit)

    def close(self) -> None:
        """Let go of the files; what is in them is there on the next start."""
        self._seal()
        self._lock.close()

    def _new_segment(self) -> AppendLog:
        path = self._directory / f"{self._next_number:010d}.spool"
        self._next_number += 1
        return AppendLog(path, sync=True)

    def _seal(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _forget_first_segment(self) -> None:
        _, size = self._segments.popleft()
        self._bytes -= size
        self._reader = None

    def _set_aside(self, path: Path, error: AppendLogError) -> None:
        """Go on behind a damaged segment, and keep its file for a person."""
        kept = path.with_suffix(".damaged")
        path.rename(kept)
        self._forget_first_segment()
        self.damaged_segments += 1
        log.error("spool.damaged", kept_as=str(kept), reason=str(error))
