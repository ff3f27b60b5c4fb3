"""Sums over the history for people: profit by period, by symbol and by strategy, the course of the profit, what a chart needs.

Money of different quote currencies is never added up: each row names its own. Functions take a pool or one connection, raise
what asyncpg raises, and bind every value, as those of `queries` do.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import msgspec

from common_models import Candle, Control, ControlAction, Fill, RoundTrip
from postgres.queries import MAX_ROWS, Source
from postgres.tables import TABLES

Period = Literal["day", "week", "month"]
Grouping = Literal["symbol", "strategy"]

MAX_POINTS = 1_000
"""The most points of a curve, whatever was asked for."""

_ENDS = {ControlAction.RESUME: ControlAction.HALT, ControlAction.CONTINUE: ControlAction.PAUSE}

_QUOTE = "split_part(split_part(symbol, '/', 2), ':', 1)"


@dataclass(frozen=True, slots=True)
class ProfitSummary:
    """Closed trades of one quote currency, whose money is in it. `held_ns` is the mean time from entry to exit."""

    quote: str
    trades: int
    wins: int
    profit: Decimal
    gross_win: Decimal
    gross_loss: Decimal
    fees: Decimal
    invested: Decimal
    best: Decimal
    worst: Decimal
    first_ns: int
    last_ns: int
    held_ns: int


@dataclass(frozen=True, slots=True)
class PeriodProfit:
    """Trades closed within one day, week (from Monday) or month in UTC; `start` is its first day, as 2026-11-21."""

    start: str
    quote: str
    trades: int
    profit: Decimal


@dataclass(frozen=True, slots=True)
class Performance:
    """Closed trades of one symbol or strategy; `invested` is what the entries cost."""

    name: str
    quote: str
    trades: int
    wins: int
    profit: Decimal
    invested: Decimal


@dataclass(frozen=True, slots=True)
class ProfitPoint:
    """The profit of all positions of one quote currency at one time, after fees: `closed` is what was realised by then."""

    ts_ns: int
    quote: str
    closed: Decimal
    open: Decimal


async def profit_summary(source: Source, since_ns: int = 0) -> list[ProfitSummary]:
    """Closed trades by quote currency, those closed at or after `since_ns`."""
    rows = await source.fetch(
        f"SELECT {_QUOTE} AS quote, count(*) AS trades, count(*) FILTER (WHERE profit > 0) AS wins, sum(profit) AS profit, "  # noqa: S608 our own
        "coalesce(sum(profit) FILTER (WHERE profit > 0), 0) AS gross_win, "
        "coalesce(-sum(profit) FILTER (WHERE profit < 0), 0) AS gross_loss, sum(fees) AS fees, sum(entry_cost) AS invested, "
        "max(profit) AS best, min(profit) AS worst, min(closed_ns) AS first_ns, max(closed_ns) AS last_ns, "
        "avg(closed_ns - opened_ns)::bigint AS held_ns FROM round_trips WHERE closed_ns >= $1 GROUP BY 1 ORDER BY 1",
        since_ns,
    )
    return [ProfitSummary(**row) for row in rows]


async def profit_by_period(source: Source, period: Period, count: int) -> list[PeriodProfit]:
    """The newest `count` periods, this one included, newest first; periods without a trade have no row."""
    rows = await source.fetch(
        f"SELECT to_char(date_trunc($1, utc(closed_ns) AT TIME ZONE 'UTC'), 'YYYY-MM-DD') AS start, {_QUOTE} AS quote, "  # noqa: S608 our own
        "count(*) AS trades, sum(profit) AS profit FROM round_trips "
        "WHERE utc(closed_ns) AT TIME ZONE 'UTC' >= date_trunc($1, now() AT TIME ZONE 'UTC') - ($2 - 1) * ('1 ' || $1)::interval "
        f"GROUP BY 1, 2 ORDER BY 1 DESC, 2 LIMIT {MAX_ROWS}",
        period,
        count,
    )
    return [PeriodProfit(**row) for row in rows]


async def performance(source: Source, by: Grouping) -> list[Performance]:
    """Closed trades by symbol or by strategy, the most profitable first."""
    column = {"symbol": "symbol", "strategy": "strategy"}[by]
    rows = await source.fetch(
        f"SELECT {column} AS name, {_QUOTE} AS quote, count(*) AS trades, count(*) FILTER (WHERE profit > 0) AS wins, "  # noqa: S608 our own
        f"sum(profit) AS profit, sum(entry_cost) AS invested FROM round_trips GROUP BY 1, 2 ORDER BY 5 DESC, 1 LIMIT {MAX_ROWS}"
    )
    return [Performance(**row) for row in rows]


async def profit_curve(source: Source, from_ns: int, to_ns: int, points: int) -> list[ProfitPoint]:
    """The course of the profit, closed and open, at `points` times from `from_ns` to `to_ns`, oldest first.

    Each time takes the newest event of each position before it: by the primary key, so that a long history costs no more.
    """
    points = max(2, min(points, MAX_POINTS))
    rows = await source.fetch(
        f"SELECT moment AS ts_ns, {_QUOTE.replace('symbol', 'held.symbol')} AS quote, "  # noqa: S608 our own
        "sum(event.realised - event.fees) AS closed, sum(event.unrealised) AS open "
        "FROM generate_series(0, $3::bigint - 1) AS step "
        "CROSS JOIN LATERAL (SELECT $1::bigint + ($2::bigint - $1) / ($3 - 1) * step AS moment) AS at "
        "CROSS JOIN positions AS held CROSS JOIN LATERAL (SELECT realised, unrealised, fees FROM position_events AS past "
        "WHERE past.exchange = held.exchange AND past.account = held.account AND past.strategy = held.strategy "
        "AND past.symbol = held.symbol AND past.ts_recv_ns <= moment ORDER BY past.ts_recv_ns DESC LIMIT 1) AS event "
        "GROUP BY 1, 2 ORDER BY 1, 2",
        from_ns,
        to_ns,
        points,
    )
    return [ProfitPoint(**row) for row in rows]


async def first_position_ns(source: Source) -> int | None:
    """When the first position was told; None when there was none."""
    found: int | None = await source.fetchval("SELECT min(ts_recv_ns) FROM position_events")
    return found


async def words_in_force(source: Source) -> list[Control]:
    """The emergency stops and pauses that nobody has ended, oldest first. A word without a target ends all of its kind."""
    rows = await source.fetch(
        "SELECT DISTINCT ON (action IN ('halt', 'resume'), target) "
        "action, actor, reason, target, created_at_ns, ts_pub_ns, message_id "
        "FROM controls WHERE action IN ('halt', 'resume', 'pause', 'continue') "
        "ORDER BY action IN ('halt', 'resume'), target, created_at_ns DESC"
    )
    said = sorted((msgspec.convert(dict(row), Control) for row in rows), key=lambda word: word.created_at_ns)
    force: list[Control] = []
    for word in said:
        ended = _ENDS.get(word.action)
        if ended is None:
            force.append(word)
        else:
            force = [other for other in force if other.action is not ended or word.target not in (None, other.target)]
    return force


async def candles_between(
    source: Source, exchange: str, symbol: str, timeframe: str, from_ns: int, to_ns: int, limit: int = MAX_ROWS
) -> list[Candle]:
    """Closed candles that opened within the time, oldest first; the newest `limit` of them."""
    columns = ", ".join(TABLES[Candle].columns)
    rows = await source.fetch(
        f"SELECT {columns}, true AS closed FROM ohlcv WHERE exchange = $1 AND symbol = $2 AND timeframe = $3 "  # noqa: S608 our own
        "AND open_ns BETWEEN $4 AND $5 ORDER BY open_ns DESC LIMIT $6",
        exchange,
        symbol,
        timeframe,
        from_ns,
        to_ns,
        min(limit, MAX_ROWS),
    )
    return [msgspec.convert(dict(row), Candle[Decimal]) for row in reversed(rows)]


async def fills_of_market(source: Source, exchange: str, symbol: str, from_ns: int, to_ns: int) -> list[Fill]:
    """Our own fills in one market received within the time, oldest first."""
    columns = ", ".join(TABLES[Fill].columns)
    rows = await source.fetch(
        f"SELECT {columns} FROM fills WHERE exchange = $1 AND symbol = $2 AND ts_recv_ns BETWEEN $3 AND $4 "  # noqa: S608 our own
        f"AND NOT external ORDER BY ts_recv_ns, trade_id LIMIT {MAX_ROWS}",
        exchange,
        symbol,
        from_ns,
        to_ns,
    )
    return [msgspec.convert(dict(row), Fill) for row in rows]


async def last_round_trip(source: Source, symbol: str) -> RoundTrip | None:
    """The trade of a symbol that was closed last; None when there is none."""
    columns = ", ".join(TABLES[RoundTrip].columns)
    row = await source.fetchrow(
        f"SELECT {columns} FROM round_trips WHERE symbol = $1 ORDER BY closed_ns DESC LIMIT 1",  # noqa: S608 our own
        symbol,
    )
    return None if row is None else msgspec.convert(dict(row), RoundTrip)
