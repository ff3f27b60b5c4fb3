"""Write batches of messages into the tables, safely repeatable.

The common batch is new: it goes by plain COPY, one for each table, in one transaction. Only when that meets a row that is there
already, or one that the database refuses, the transaction is rolled back and the batch is written again with care: COPY into a
temporary table, INSERT ... ON CONFLICT DO NOTHING, halving around a refused row until it stands alone. After a conflict
the next batches are written with care at once, since replays come in rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg

from common_models import Message
from postgres.tables import TABLES, Latest, Row, Table

CAREFUL_BATCHES = 16
"""How many batches after a conflict are written with care without trying COPY first."""

ROW_ERRORS = (
    asyncpg.DataError,  # NUL in text, a number out of range
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,  # a key too long for its index
    ValueError,  # lone surrogates, and what asyncpg cannot encode
    TypeError,
    ArithmeticError,
)
"""What is wrong with a row and not with the database. Everything else concerns the whole batch and is tried again later."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that no table takes, and why."""

    message: Message
    reason: str


@dataclass(slots=True)
class Stored:
    """What became of one batch. Counts of rows by table; `duplicates` were there already, `skipped` have no table."""

    rows: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    duplicates: int = 0
    skipped: int = 0
    refused: list[Refused] = field(default_factory=list)


Groups = Sequence[tuple[Table, list[Message]]]


class HistoryWriter:
    """Stores batches through any connection that `Link` gives. Not for two batches at a time."""

    def __init__(self, tables: Mapping[type[Message], Table] = TABLES) -> None:
        self._tables = tables
        self._careful_batches = 0

    async def store(self, connection: asyncpg.Connection, messages: Sequence[Message]) -> Stored:
        """Commit the batch in one transaction; when this returns, all but `refused` is in the database.

        Raises what the connection raises when the database cannot store now; then nothing of the batch is certain, and storing it
        again is harmless.
        """
        if self._careful_batches == 0:
            try:
                return await self._copy(connection, messages)
            except asyncpg.UniqueViolationError:
                self._careful_batches = CAREFUL_BATCHES
            except ROW_ERRORS:
                self._careful_batches = 1
        self._careful_batches -= 1
        return await self._merge(connection, messages)

    async def _copy(self, connection: asyncpg.Connection, messages: Sequence[Message]) -> Stored:
        stored = Stored()
        async with connection.transaction():
            for table, group in self._grouped(messages, stored):
                rows = [table.row(message) for message in group]
                if table.table:
                    await connection.copy_records_to_table(table.table, columns=table.columns, records=rows)
                    stored.rows[table.table] += len(rows)
                if table.latest:
                    await _keep_latest(connection, table, table.latest, rows, stored)
        return stored

    async def _merge(self, connection: asyncpg.Connection, messages: Sequence[Message]) -> Stored:
        stored = Stored()
        async with connection.transaction():
            for table, group in self._grouped(messages, stored):
                await self._merge_group(connection, table, group, stored)
        return stored

    async def _merge_group(self, connection: asyncpg.Connection, table: Table, group: list[Message], stored: Stored) -> None:
        """Store what can be stored of one table's messages: a refused row costs its own and a few shorter attempts."""
        try:
            async with connection.transaction():
                rows = [table.row(message) for message in group]
                inserted = await _insert_new(connection, table.table, table.columns, rows) if table.table else 0
                if table.latest:
                    await _keep_latest(connection, table, table.latest, rows, stored)
        except ROW_ERRORS as error:
            if len(group) == 1:
                stored.refused.append(Refused(group[0], f"{table.names[0]}: {type(error).__name__}: {error}"))
                return
            half = len(group) // 2
            await self._merge_group(connection, table, group[:half], stored)
            await self._merge_group(connection, table, group[half:], stored)
            return
        if table.table:
            stored.rows[table.table] += inserted
            stored.duplicates += len(rows) - inserted

    def _grouped(self, messages: Sequence[Message], stored: Stored) -> Groups:
        """Messages by table, in order; what no table wants is counted."""
        by_type: defaultdict[type[Message], list[Message]] = defaultdict(list)
        for message in messages:
            by_type[type(message)].append(message)
        groups = []
        for kind, group in by_type.items():
            table = self._tables.get(kind)
            wanted = [] if table is None else group if table.wanted is None else [m for m in group if table.wanted(m)]
            stored.skipped += len(group) - len(wanted)
            if table is not None and wanted:
                groups.append((table, wanted))
        return groups


async def _insert_new(connection: asyncpg.Connection, table: str, columns: tuple[str, ...], rows: list[Row]) -> int:
    """Add the rows that are not there yet; returns how many that were."""
    staging, names = f"staging_{table}", ", ".join(columns)
    await connection.execute(f"CREATE TEMPORARY TABLE IF NOT EXISTS {staging} (LIKE {table})")
    await connection.copy_records_to_table(staging, columns=columns, records=rows)
    status = await connection.execute(
        f"INSERT INTO {table} ({names}) SELECT {names} FROM {staging} ON CONFLICT DO NOTHING"  # noqa: S608 our own names
    )
    await connection.execute(f"TRUNCATE {staging}")
    return int(status.rpartition(" ")[2])


async def _keep_latest(connection: asyncpg.Connection, table: Table, latest: Latest, rows: list[Row], stored: Stored) -> None:
    """Replace the rows of `latest.table` that are older than those of the batch."""
    key_at = [table.columns.index(name) for name in latest.key]
    guard_at = table.columns.index(latest.guard)
    newest: dict[Row, Row] = {}
    for row in rows:
        key = tuple([row[at] for at in key_at])
        if key not in newest or row[guard_at] >= newest[key][guard_at]:
            newest[key] = row
    await connection.executemany(_upsert(table, latest), list(newest.values()))
    stored.rows[latest.table] += len(newest)


def _upsert(table: Table, latest: Latest) -> str:
    names, key = ", ".join(table.columns), ", ".join(latest.key)
    values = ", ".join(f"${number}" for number in range(1, len(table.columns) + 1))
    changes = ", ".join(f"{name} = excluded.{name}" for name in table.columns if name not in latest.key)
    return (
        f"INSERT INTO {latest.table} AS known ({names}) VALUES ({values}) "  # noqa: S608 our own names
        f"ON CONFLICT ({key}) DO UPDATE SET {changes} WHERE known.{latest.guard} < excluded.{latest.guard}"
    )
