"""Day partitions: made before their day comes, dropped when their history is older than is kept.

Only the recorder calls this, by functions of the database (`postgres.routines`), since it does not own the tables. Each call waits
for locks a few seconds at most and is tried again on the next round, so that maintenance never stands in the way of a write for
long; until then the DEFAULT partitions take what comes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog

from common_models.timestamps import NS_PER_S, datetime_to_ns
from postgres.schema import PARTITIONED

log = structlog.get_logger(__name__)

DAYS_AHEAD = 2
LOCK_TIMEOUT_MS = 3_000
DAY_NS = 86_400 * NS_PER_S

_NAME = re.compile(r"(?P<table>[a-z_]+)_(?P<day>\d{8})")


@dataclass(slots=True)
class Maintenance:
    """What one round did: names of partitions, and what could not be done yet and why."""

    created: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    postponed: list[str] = field(default_factory=list)
    deleted_rows: int = 0


async def maintain(connection: asyncpg.Connection, now_ns: int, keep_days: Mapping[str, int]) -> Maintenance:
    """Make the partitions of today and the next days, and drop what is older than `keep_days` (per table; 0 or absent: never).

    Raises only when the connection fails; a lock that is not to be had is reported as postponed.
    """
    done = Maintenance()
    today = datetime.fromtimestamp(now_ns // NS_PER_S, UTC).replace(hour=0, minute=0, second=0)
    existing = await partition_names(connection)
    for table in PARTITIONED:
        for ahead in range(DAYS_AHEAD + 1):
            name = partition_name(table, today + timedelta(days=ahead))
            start_ns = datetime_to_ns(today + timedelta(days=ahead))
            if name not in existing and await _attempt(connection, done, name, "make_day_partition", table, start_ns):
                done.created.append(name)
        days = keep_days.get(table, 0)
        if not days:
            continue
        oldest = today - timedelta(days=days)
        for name in sorted(name for name in existing if _is_older(name, table, oldest)):
            if await _attempt(connection, done, name, "drop_day_partition", table, name.rpartition("_")[2]):
                done.dropped.append(name)
        # rows outside all days, such as a replay of last year: kept as long as others, counted from when we got them
        done.deleted_rows += await connection.fetchval("SELECT delete_stray_rows($1, $2)", table, datetime_to_ns(oldest))
    return done


async def partition_names(connection: asyncpg.Connection) -> set[str]:
    """The names of all partitions in the schema, DEFAULT ones included."""
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' AND relnamespace = current_schema()::regnamespace"
    )
    return {row["relname"] for row in rows}


def partition_name(table: str, day: datetime) -> str:
    """`trades_20261121`: the day in UTC."""
    return f"{table}_{day:%Y%m%d}"


def _is_older(name: str, table: str, oldest: datetime) -> bool:
    """Whether this is a partition of `table` for a day before `oldest`."""
    match = _NAME.fullmatch(name)
    return match is not None and match["table"] == table and match["day"] < f"{oldest:%Y%m%d}"


async def _attempt(connection: asyncpg.Connection, done: Maintenance, name: str, routine: str, table: str, day: int | str) -> bool:
    """Call one of the functions of `postgres.routines` for the partition `name`; False when a lock was not to be had."""
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
            await connection.execute(f"SELECT {routine}($1, $2)", table, day)
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.QueryCanceledError) as error:
        log.warning("partitions.postponed", partition=name, reason=str(error))
        done.postponed.append(f"{name}: {error}")
        return False
    return True
