"""Small tables that survive: in memory to read, in one append-only file to come back after a crash.

All changes between two commits are one record of the file, so that they happen together or not at all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec

from runtime.append_log import AppendLog, AppendLogError, read_records
from runtime.clock import now_ns

COMPACT_BYTES = 2_000_000
"""The file is written anew when it has grown by so much since the last time, and to twice what it then had."""
ROWS_PER_RECORD = 200

Row = TypeVar("Row")
_record = msgspec.json.Decoder(dict[str, dict[str, msgspec.Raw]])
_NOTHING = msgspec.Raw(b"null")


class Table(Generic[Row]):
    """Rows by key. A row that was changed in place must be `put` again to be kept."""

    def __init__(self, name: str, kind: type[Row]) -> None:
        self.name = name
        self._decoder = msgspec.json.Decoder(kind)
        self._rows: dict[str, Row] = {}
        self._changed: dict[str, None] = {}

    @property
    def rows(self) -> Mapping[str, Row]:
        """All rows, in the order in which their keys first came."""
        return MappingProxyType(self._rows)

    def get(self, key: str) -> Row | None:
        return self._rows.get(key)

    def put(self, key: str, row: Row) -> None:
        self._rows[key] = row
        self._changed[key] = None

    def drop(self, key: str) -> None:
        """Forget a row; one that is not there is no mistake."""
        if self._rows.pop(key, None) is not None:
            self._changed[key] = None

    @property
    def changed(self) -> bool:
        return bool(self._changed)

    def take_changes(self) -> dict[str, Row | None]:
        """The rows put (None: dropped) since `forget_changes`."""
        return {key: self._rows.get(key) for key in self._changed}

    def forget_changes(self) -> None:
        self._changed.clear()

    def apply(self, changes: Mapping[str, msgspec.Raw]) -> None:
        """Do again what a record of the file says."""
        for key, raw in changes.items():
            if bytes(raw) == bytes(_NOTHING):
                self._rows.pop(key, None)
            else:
                self._rows[key] = self._decoder.decode(raw)


class DurableTables:
    """The tables of one directory. One process at a time: a second one gets AppendLogError.

    Make the tables with `table`, then `load` once.
    """

    def __init__(self, directory: Path) -> None:
        self.failures = 0
        self.damage = ""
        self._path = directory / "tables.log"
        self._lock = AppendLog(directory / "lock")
        self._tables: dict[str, Table[Any]] = {}
        self._log: AppendLog | None = None
        self._bytes = self._compacted_bytes = 0

    def table(self, name: str, kind: type[Row]) -> Table[Row]:
        table = Table(name, kind)
        self._tables[name] = table
        return table

    def load(self) -> None:
        """Read the file. Of a damaged one the sound beginning counts; it is kept aside, and `damage` says why and where."""
        try:
            for record in read_records(self._path):
                for name, changes in _record.decode(record).items():
                    if name in self._tables:
                        self._tables[name].apply(changes)
        except (AppendLogError, msgspec.DecodeError) as error:
            kept = self._path.with_name(f"tables.{now_ns()}.damaged")
            self._path.replace(kept)
            self.damage = f"{error}; kept as {kept.name}"
        self._log = AppendLog(self._path, sync=True)
        if self.damage:
            self._compact()
        self._bytes = self._compacted_bytes = self._path.stat().st_size

    @property
    def changed(self) -> bool:
        return any(table.changed for table in self._tables.values())

    @property
    def size_bytes(self) -> int:
        """Of the file now."""
        return self._bytes

    def commit(self) -> None:
        """Put all changes on the disk, together. Raises OSError; then they are part of the next commit."""
        assert self._log is not None, "load() comes first"
        changes = {name: table.take_changes() for name, table in self._tables.items() if table.changed}
        if not changes:
            return
        record = msgspec.json.encode(changes)
        try:
            self._log.append(record)
        except OSError:
            self.failures += 1
            raise
        for table in self._tables.values():
            table.forget_changes()
        self._bytes += len(record) + 10
        if self._bytes - self._compacted_bytes > max(COMPACT_BYTES, self._compacted_bytes):
            with contextlib.suppress(OSError):  # the long file serves as well; tried again after as many bytes
                self._compact()
            self._compacted_bytes = self._bytes

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
        self._lock.close()

    def _compact(self) -> None:
        """Write what is there now into a fresh file and put it in the place of the old one."""
        fresh_path = self._path.with_suffix(".fresh")
        fresh_path.unlink(missing_ok=True)
        fresh = AppendLog(fresh_path)
        try:
            for record in self._snapshot():
                fresh.append(record)
            fresh.sync()
        finally:
            fresh.close()
        fresh_path.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        old, self._log = self._log, AppendLog(self._path, sync=True)
        if old is not None:
            old.close()
        self._bytes = self._path.stat().st_size

    def _snapshot(self) -> Iterator[bytes]:
        for name, table in self._tables.items():
            rows = list(table.rows.items())
            for start in range(0, len(rows), ROWS_PER_RECORD):
                yield msgspec.json.encode({name: dict(rows[start : start + ROWS_PER_RECORD])})
