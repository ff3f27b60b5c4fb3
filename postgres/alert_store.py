"""The states of alerts in PostgreSQL: a copy that the alerts process keeps, and the way by which others speak to it.

The rows are the alerts process' own structs, so `kind` says what to make of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import asyncpg
import msgspec

from postgres.queries import MAX_ROWS, Source

T = TypeVar("T")

OPEN, ACKNOWLEDGED, RESOLVED = "open", "acknowledged", "resolved"
STATE_COLUMNS = (
    *("alert_id", "key", "level", "category", "source", "code", "event", "title", "text", "exchange", "symbol", "details"),
    *("count", "first_ns", "last_ns", "phase", "changed_by", "changed_ns", "escalations"),
)
DELIVERY_COLUMNS = (*("number", "channel", "level", "event", "title", "alert_id", "created_ns", "done_ns", "attempts", "outcome"),)
_CHANGING = ("level", "title", "text", "details", "count", "last_ns", "phase", "changed_by", "changed_ns", "escalations")


class Action(NamedTuple):
    """What somebody said to an alert: `phase` is what it should become. `number` rises by the order in which it was said."""

    number: int
    alert_id: str
    phase: str
    actor: str


def _insert(table: str, columns: Sequence[str], conflict: str) -> str:
    marks = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT {conflict}"  # noqa: S608 our own names


_SAVE_STATE = _insert(
    "alert_states",
    STATE_COLUMNS,
    "(alert_id, first_ns) DO UPDATE SET " + ", ".join(f"{column} = excluded.{column}" for column in _CHANGING),
)
_STATE = ", ".join(STATE_COLUMNS)
_FIND = f"SELECT {_STATE} FROM alert_states WHERE alert_id = $1 ORDER BY first_ns DESC LIMIT 1 FOR UPDATE"  # noqa: S608
_CHANGE = f"""UPDATE alert_states SET phase = $3, changed_by = $4, changed_ns = $5
    WHERE alert_id = $1 AND first_ns = $2 RETURNING {_STATE}"""  # noqa: S608
_SAY = "INSERT INTO alert_actions (alert_id, phase, actor, made_ns) VALUES ($1, $2, $3, $4)"
_SAVE_DELIVERY = _insert("alert_deliveries", DELIVERY_COLUMNS, "DO NOTHING")
_state_row = attrgetter(*STATE_COLUMNS)
_delivery_row = attrgetter(*DELIVERY_COLUMNS)


async def save(connection: asyncpg.Connection, states: Iterable[object], deliveries: Iterable[object]) -> None:
    """Store states as they are now and deliveries that are over, in one transaction; repeating it is harmless."""
    async with connection.transaction():
        await connection.executemany(_SAVE_STATE, [_cleaned(_state_row(state)) for state in states])
        await connection.executemany(_SAVE_DELIVERY, [_cleaned(_delivery_row(delivery)) for delivery in deliveries])


async def prune(connection: asyncpg.Connection, before_ns: int) -> None:
    """Forget deliveries and actions from before a time; the states of alerts stay."""
    await connection.execute("DELETE FROM alert_deliveries WHERE created_ns < $1", before_ns)
    await connection.execute("DELETE FROM alert_actions WHERE made_ns < $1", before_ns)


async def actions_after(connection: asyncpg.Connection, number: int) -> list[Action]:
    """What was said after the action `number`, in order."""
    columns = ", ".join(Action._fields)
    rows = await connection.fetch(
        f"SELECT {columns} FROM alert_actions WHERE number > $1 ORDER BY number LIMIT {MAX_ROWS}",  # noqa: S608 our own names
        number,
    )
    return [Action(*row) for row in rows]


async def last_action(connection: asyncpg.Connection) -> int:
    """The number of the newest action, 0 when there is none."""
    return int(await connection.fetchval("SELECT coalesce(max(number), 0) FROM alert_actions"))


async def say(connection: asyncpg.Connection, kind: type[T], alert_id: str, phase: str, actor: str, made_ns: int) -> T | None:
    """Acknowledge or resolve the newest alert of this id, and tell the alerts process, which makes it so on its side too.

    Returns the alert as it then is, one that was over before as it was; None when there is none.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('tradebot.alert_actions', 0))")  # numbers in order
        row = await connection.fetchrow(_FIND, alert_id)
        if row is not None and row["phase"] not in (phase, RESOLVED):
            row = await connection.fetchrow(_CHANGE, alert_id, row["first_ns"], phase, actor, made_ns)
            await connection.execute(_SAY, alert_id, phase, actor, made_ns)
    return None if row is None else msgspec.convert(dict(row), kind)


async def alert_states(source: Source, kind: type[T], limit: int, *, resolved: bool = False) -> list[T]:
    """Open and acknowledged alerts (`resolved`: those that are over too), the newest first."""
    rows = await source.fetch(
        f"SELECT {_STATE} FROM alert_states WHERE $1 OR phase <> 'resolved' ORDER BY last_ns DESC LIMIT $2",  # noqa: S608
        resolved,
        max(0, min(limit, MAX_ROWS)),
    )
    return [msgspec.convert(dict(row), kind) for row in rows]


def _cleaned(row: Sequence[Any]) -> list[Any]:
    """The values as the database takes them: its texts know no NUL."""
    return [_without_nul(value) for value in row]


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(text) for name, text in value.items()}
    return value
