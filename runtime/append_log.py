"""A durable append-only file of records: what is written before something else may happen.

One record a line: eight hex characters of CRC-32, a blank, the payload (JSON without line breaks), a line break. A process that is
killed leaves at most one torn line at the end, which is cut off when the file is opened again; a damaged line elsewhere is
an error, because then the disk or a person changed what we relied on.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

_datasync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class AppendLogError(Exception):
    """The file is damaged, or another process has it open."""


class AppendLog:
    """Append records to one file, each in the kernel (write(2)) before `append` returns.

    `sync=True` also waits for the disk (fdatasync), which guards against power loss and not only against killed processes.
    One process at a time: the file is locked while it is open.
    """

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        self.path = path
        self._sync = sync
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = open(path, "ab", buffering=0, opener=_private)  # noqa: SIM115 held open on purpose
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise AppendLogError(f"{path} is in use by another process; stop that one first (tradebot status)") from error
        self.torn_bytes = _cut_torn_tail(path)

    def append(self, payload: bytes) -> None:
        """Write one record; raises OSError when the disk refuses, and then the record is not in the file."""
        self.append_many((payload,))

    def append_many(self, payloads: Sequence[bytes]) -> None:
        """Write records with one system call (and one fdatasync); all of them or, with an OSError, none."""
        data = b"".join([framed(payload) for payload in payloads])
        written = self._file.write(data)
        if written != len(data):  # a full disk takes a part: take it back, so that the next record starts a line
            size = os.fstat(self._file.fileno()).st_size
            os.ftruncate(self._file.fileno(), size - (written or 0))
            raise OSError(f"{self.path}: the disk took {written} of {len(data)} bytes; free some space")
        if self._sync:
            _datasync(self._file.fileno())

    def sync(self) -> None:
        """Wait until all that was appended is on the disk."""
        _datasync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> AppendLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def framed(payload: bytes) -> bytes:
    """The line of one record."""
    return b"%08x %s\n" % (zlib.crc32(payload), payload)


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the payloads of a log file in order; a torn last line is left out, a damaged one raises AppendLogError."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            payload = _payload(line)
            if payload is None:
                raise AppendLogError(f"{path}:{number}: damaged record; restore the file from a backup, do not edit it")
            yield payload


def _payload(line: bytes) -> bytes | None:
    payload = line[9:-1]
    return payload if line[:9] == b"%08x " % zlib.crc32(payload) else None


def _cut_torn_tail(path: Path) -> int:
    """Truncate what follows the last line break; returns how many bytes that were."""
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        position = size
        while position > 0:
            step = min(65_536, position)
            file.seek(position - step)
            newline = file.read(step).rfind(b"\n")
            if newline >= 0:
                position = position - step + newline + 1
                break
            position -= step
        file.truncate(position)
        return size - position


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
