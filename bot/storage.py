"""The bot's durable memory: one append-only file of records per mode, read back at every start.

A record is written (write(2), not fsync: it survives the death of the process, and the connector's journal guards the money)
before anything follows from it: a command before it goes to the bus, a fill before it is acknowledged.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from bot.portfolio import Portfolio
from bot.records import AnyRecord
from runtime.append_log import AppendLog, read_records

log = structlog.get_logger(__name__)

COMPACT_BYTES = 8 * 1024 * 1024


class StorageError(Exception):
    """The bot's file cannot be read; the text says where and what to do."""


class Storage:
    """Records in `directory/state.log`. `open` restores a portfolio; `append` makes records durable and applies them to it."""

    def __init__(self, directory: Path, portfolio: Portfolio, compact_bytes: int = COMPACT_BYTES) -> None:
        self.path = directory / "state.log"
        self._portfolio = portfolio
        self._compact_bytes = compact_bytes
        self._encoder = msgspec.json.Encoder()
        self._log: AppendLog | None = None
        self._size = 0

    def open(self) -> int:
        """Take the file, apply all its records and return how many there were.

        Raises AppendLogError when another bot has the file or it is damaged, and StorageError for a record that is not ours.
        """
        self._log = AppendLog(self.path)
        if self._log.torn_bytes:
            log.warning("storage.torn_record", path=str(self.path), bytes=self._log.torn_bytes)
        decoder: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)
        count = 0
        for count, payload in enumerate(read_records(self.path), start=1):
            try:
                self._portfolio.apply(decoder.decode(payload))
            except msgspec.MsgspecError as error:
                raise StorageError(
                    f"{self.path}:{count}: not a record of this version: {error}; move the file away to start without positions"
                ) from error
        self._size = self.path.stat().st_size
        if self._size > self._compact_bytes:
            self.compact()
        return count

    def append(self, *records: AnyRecord) -> None:
        """Write the records with one system call, then apply them; raises OSError with nothing changed when the disk refuses."""
        self._write(records)
        for record in records:
            self._portfolio.apply(record)

    def compact_when_large(self) -> None:
        """Replace a file that has grown by one snapshot; for quiet moments."""
        if self._size > self._compact_bytes:
            self.compact()

    def compact(self) -> None:
        """Write the state as one record to a new file, on the disk for certain, and put it in the place of the old."""
        fresh_path = self.path.with_suffix(".new")
        fresh_path.unlink(missing_ok=True)
        fresh = AppendLog(fresh_path)
        try:
            fresh.append(self._encoder.encode(self._portfolio.snapshot()))
            fresh.sync()
            os.replace(fresh_path, self.path)  # noqa: PTH105 the lock on the new file goes with it
        except OSError:
            fresh.close()
            raise
        self.close()
        self._log = fresh
        before, self._size = self._size, self.path.stat().st_size
        # the file may hardly shrink: do not write it again and again
        self._compact_bytes = max(self._compact_bytes, 2 * self._size)
        log.info("storage.compacted", path=str(self.path), bytes_before=before, bytes=self._size)

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def _write(self, records: Sequence[AnyRecord]) -> None:
        if self._log is None:
            raise StorageError(f"{self.path} is not open")
        payloads = [self._encoder.encode(record) for record in records]
        self._log.append_many(payloads)
        self._size += sum(len(payload) + 10 for payload in payloads)
