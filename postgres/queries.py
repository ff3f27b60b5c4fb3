"""What others read from the history: the bot's warm-up, the command line, later the API. Every value is a bound parameter.

Rows come back as the messages that they were stored from, so a reader needs no second vocabulary. Functions take a pool
or a single connection, and raise what asyncpg raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

import asyncpg
import msgspec

from common_models import Balance, Candle, Decision, Fill, Instrument, Message, OrderUpdate, Position, RoundTrip, Signal
from postgres.tables import TABLES

Source = asyncpg.Pool | asyncpg.Connection

M = TypeVar("M", bound=Message)

MAX_ROWS = 10_000
"""The most rows that one call returns, whatever was asked for."""

OPEN_STATUSES = ("INTENT", "SENT", "OPEN", "PARTIALLY_FILLED", "UNKNOWN")


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is stored of one market: `kind` is trade, aggregate or candle (with `timeframe`). Times in UTC nanoseconds."""

    kind: str
    exchange: str
    symbol: str
    timeframe: str
    rows: int
    first_ns: int
    last_ns: int


async def recent_candles(source: Source, exchange: str, symbol: str, timeframe: str, limit: int) -> list[Candle]:
    """The newest `limit` closed candles, oldest first."""
    found = await _read(
        source,
        Candle[Decimal],
        "ohlcv",
        "true AS closed",
        "WHERE exchange = $1 AND symbol = $2 AND timeframe = $3 ORDER BY open_ns DESC LIMIT $4",
        exchange,
        symbol,
        timeframe,
        _bounded(limit),
    )
    return found[::-1]


async def open_orders(source: Source, exchange: str | None = None, account: str | None = None) -> list[OrderUpdate]:
    """Orders that may still fill, UNKNOWN ones included, oldest first; of one exchange or account when given."""
    return await _read(
        source,
        OrderUpdate,
        "orders",
        "",
        "WHERE status = ANY($1::text[]) AND ($2::text IS NULL OR exchange = $2) AND ($3::text IS NULL OR account = $3) "
        f"ORDER BY ts_recv_ns LIMIT {MAX_ROWS}",
        OPEN_STATUSES,
        exchange,
        account,
    )


async def recent_orders(source: Source, limit: int, symbol: str | None = None) -> list[OrderUpdate]:
    """The orders that changed last, newest first."""
    return await _read(
        source,
        OrderUpdate,
        "orders",
        "",
        "WHERE ($1::text IS NULL OR symbol = $1) ORDER BY ts_recv_ns DESC LIMIT $2",
        symbol,
        _bounded(limit),
    )


async def order_by_id(source: Source, order_id: str) -> OrderUpdate | None:
    """The order with this id of ours or of the venue; None when there is none."""
    found = await _read(
        source,
        OrderUpdate,
        "orders",
        "",
        "WHERE client_order_id = $1 OR (exchange_order_id = $1 AND exchange_order_id <> '') "
        "ORDER BY client_order_id = $1 DESC LIMIT 1",
        order_id,
    )
    return found[0] if found else None


async def order_history(source: Source, client_order_id: str) -> list[OrderUpdate]:
    """Every state that an order went through, in order."""
    rest = f"WHERE client_order_id = $1 ORDER BY exchange, account, revision LIMIT {MAX_ROWS}"
    return await _read(source, OrderUpdate, "order_events", "", rest, client_order_id)


async def fills_since(source: Source, exchange: str, account: str, since_ns: int, limit: int = MAX_ROWS) -> list[Fill]:
    """Fills of an account received at or after `since_ns`, oldest first."""
    return await _read(
        source,
        Fill,
        "fills",
        "",
        "WHERE exchange = $1 AND account = $2 AND ts_recv_ns >= $3 ORDER BY ts_recv_ns, trade_id LIMIT $4",
        exchange,
        account,
        since_ns,
        _bounded(limit),
    )


async def fills_of_order(source: Source, client_order_id: str) -> list[Fill]:
    """The fills of one order, oldest first."""
    rest = f"WHERE client_order_id = $1 ORDER BY ts_recv_ns, trade_id LIMIT {MAX_ROWS}"
    return await _read(source, Fill, "fills", "", rest, client_order_id)


async def recent_fills(source: Source, limit: int) -> list[Fill]:
    """The newest fills of all accounts, newest first."""
    return await _read(source, Fill, "fills", "", "ORDER BY ts_recv_ns DESC LIMIT $1", _bounded(limit))


async def recent_round_trips(source: Source, limit: int) -> list[RoundTrip]:
    """The positions closed last, newest first."""
    return await _read(source, RoundTrip, "round_trips", "", "ORDER BY closed_ns DESC LIMIT $1", _bounded(limit))


async def recent_signals(source: Source, limit: int) -> list[Signal]:
    """The newest opinions of plugins, newest first."""
    return await _read(source, Signal, "signals", "", "ORDER BY ts_event_ns DESC LIMIT $1", _bounded(limit))


async def recent_decisions(source: Source, limit: int) -> list[Decision]:
    """The newest decisions, taken or denied, newest first."""
    return await _read(source, Decision, "decisions", "", "ORDER BY ts_event_ns DESC LIMIT $1", _bounded(limit))


async def positions(source: Source) -> list[Position]:
    """The latest position of every account, strategy and symbol, flat ones included."""
    return await _read(source, Position, "positions", "", "ORDER BY exchange, account, symbol, strategy")


async def balances(source: Source) -> list[Balance]:
    """The latest balance of every account and asset."""
    return await _read(source, Balance, "balances", "", "ORDER BY exchange, account, asset")


async def instruments(source: Source, exchange: str) -> list[Instrument]:
    """The newest trading rules of every market of an exchange."""
    return await _read(source, Instrument, "instruments", "", "WHERE exchange = $1 ORDER BY symbol", exchange)


async def table_counts(source: Source) -> dict[str, int]:
    """Rows of every table, counted one by one: takes its time on a large history."""
    parts = " UNION ALL ".join(f"SELECT '{name}' AS name, count(*) AS rows FROM {name}" for name in sorted(_COLUMNS))  # noqa: S608 our own
    return {row["name"]: row["rows"] for row in await source.fetch(parts)}


async def coverage(source: Source) -> list[Coverage]:
    """What is stored of public trades and candles, from when to when."""
    rows = await source.fetch(
        "SELECT kind, exchange, symbol, '' AS timeframe, count(*) AS rows, "
        "min(ts_event_ns) AS first_ns, max(ts_event_ns) AS last_ns FROM trades GROUP BY kind, exchange, symbol UNION ALL "
        "SELECT 'candle', exchange, symbol, timeframe, count(*), min(open_ns), max(close_ns) "
        "FROM ohlcv GROUP BY exchange, symbol, timeframe ORDER BY 2, 3, 1, 4"
    )
    return [Coverage(**row) for row in rows]


async def _read(source: Source, kind: type[M], table: str, extra: str, rest: str, *values: object) -> list[M]:
    """Rows of a table as messages of `kind`; `extra` are columns beyond those that are stored, `rest` follows the table's name."""
    columns = ", ".join((*_COLUMNS[table], extra) if extra else _COLUMNS[table])
    rows = await source.fetch(f"SELECT {columns} FROM {table} {rest}", *values)  # noqa: S608 our own names, bound values
    return [msgspec.convert(dict(row), kind) for row in rows]


def _bounded(limit: int) -> int:
    return max(0, min(limit, MAX_ROWS))


_COLUMNS = {name: table.columns for table in TABLES.values() for name in table.names}
