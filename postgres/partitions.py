"""Day partitions: made before their day comes, dropped when their history is older than is kept.

Only the recorder calls this. Every statement waits for locks a few seconds at most and is tried again on the next round, so that
maintenance never stands in the way of a write for long; until then the DEFAULT partitions take what comes.
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
    for table, column in PARTITIONED.items():
        for ahead in range(DAYS_AHEAD + 1):
            name = partition_name(table, today + timedelta(days=ahead))
            if name not in existing and await _attempt(
                connection, done, name, _create(table, column, today + timedelta(days=ahead))
            ):
                done.created.append(name)
        days = keep_days.get(table, 0)
        if not days:
            continue
        oldest = today - timedelta(days=days)
        for name in sorted(name for name in existing if _is_older(name, table, oldest)):
            if await _attempt(connection, done, name, [f"DROP TABLE {name}"]):
                done.dropped.append(name)
        done.deleted_rows += await _delete_old_default_rows(connection, table, datetime_to_ns(oldest))
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


def _create(table: str, column: str, day: datetime) -> list[str]:
    """Statements that make the partition of `day` and move there what the DEFAULT partition took of that day.

    ATTACH needs a weaker lock on the table than CREATE ... PARTITION OF, and would refuse while such rows lie in DEFAULT.
    """
    name, start_ns = partition_name(table, day), datetime_to_ns(day)
    end_ns = start_ns + DAY_NS
    own = f"{column} >= {start_ns} AND {column} < {end_ns}"
    move = f"WITH moved AS (DELETE FROM {table}_default WHERE {own} RETURNING *) INSERT INTO {name} SELECT * FROM moved"  # noqa: S608
    return [
        f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)",
        f"LOCK TABLE {table}_default IN ACCESS EXCLUSIVE MODE",
        move,
        f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({start_ns}) TO ({end_ns})",
    ]


async def _delete_old_default_rows(connection: asyncpg.Connection, table: str, before_ns: int) -> int:
    """Rows outside all days, such as a replay of last year: kept as long as others, counted from when we got them."""
    status = await connection.execute(f"DELETE FROM {table}_default WHERE ts_pub_ns < {before_ns}")  # noqa: S608 our own names
    return int(status.rpartition(" ")[2])


async def _attempt(connection: asyncpg.Connection, done: Maintenance, name: str, statements: list[str]) -> bool:
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
            for statement in statements:
                await connection.execute(statement)
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.QueryCanceledError) as error:
        log.warning("partitions.postponed", partition=name, reason=str(error))
        done.postponed.append(f"{name}: {error}")
        return False
    return True
