"""The sums for people agree with the trades that they are made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import asyncpg
import pytest

import common_models as cm
from postgres import migrate, reports
from postgres.pool import open_pool
from postgres.writer import HistoryWriter
from runtime.clock import now_ns
from runtime.settings import PostgresSettings
from tests.unit.postgres.samples import NOW_NS, candle, fill, identity, position, round_trip

DAY_NS = 86_400 * 1_000_000_000


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    await asyncio.to_thread(migrate.upgrade, database_url, "simulation")
    async with await open_pool(database_url, "simulation", PostgresSettings(pool_size=2)) as opened:
        yield opened


async def store(pool: asyncpg.Pool, *messages: cm.Message) -> None:
    async with pool.acquire() as connection:
        await HistoryWriter().store(connection, messages)


def trade(number: int, profit: str, closed_ns: int, **changes: object) -> cm.RoundTrip:
    return round_trip(number, profit=Decimal(profit), opened_ns=closed_ns - 60_000_000_000, closed_ns=closed_ns, **changes)


async def test_profit_is_summed_by_quote_currency(pool: asyncpg.Pool) -> None:
    await store(
        pool,
        trade(1, "10.5", NOW_NS),
        trade(2, "-4.25", NOW_NS + 1),
        trade(3, "2", NOW_NS + 2, symbol="ETH/USDT:USDT"),
        trade(4, "0.001", NOW_NS + 3, symbol="ETH/BTC"),
    )
    btc, usdt = await reports.profit_summary(pool)
    assert (btc.quote, btc.trades, btc.profit, btc.gross_loss) == ("BTC", 1, Decimal("0.001"), 0)
    assert (usdt.quote, usdt.trades, usdt.wins, usdt.profit) == ("USDT", 3, 2, Decimal("8.25"))
    assert (usdt.gross_win, usdt.gross_loss, usdt.best, usdt.worst) == (
        Decimal("12.5"),
        Decimal("4.25"),
        Decimal("10.5"),
        Decimal("-4.25"),
    )
    assert (usdt.first_ns, usdt.last_ns, usdt.held_ns) == (NOW_NS, NOW_NS + 2, 60_000_000_000)
    assert [summary.quote for summary in await reports.profit_summary(pool, NOW_NS + 3)] == ["BTC"]

    by_symbol = {row.name: row for row in await reports.performance(pool, "symbol")}
    assert (by_symbol["BTC/USDT"].profit, by_symbol["BTC/USDT"].wins, by_symbol["BTC/USDT"].trades) == (Decimal("6.25"), 1, 2)
    assert {row.quote for row in await reports.performance(pool, "strategy")} == {"BTC", "USDT"}
    assert await reports.last_round_trip(pool, "ETH/BTC") == trade(4, "0.001", NOW_NS + 3, symbol="ETH/BTC")
    assert await reports.last_round_trip(pool, "DOGE/USDT") is None


async def test_periods_are_days_weeks_and_months_in_utc(pool: asyncpg.Pool) -> None:
    now = now_ns()
    midnight_ns = now - now % DAY_NS
    await store(
        pool,
        trade(1, "1", midnight_ns),
        trade(2, "2", midnight_ns - 1),
        trade(3, "4", midnight_ns - 3 * DAY_NS),
        trade(4, "8", midnight_ns - 40 * DAY_NS),
    )
    assert [(row.profit, row.trades) for row in await reports.profit_by_period(pool, "day", 2)] == [(1, 1), (2, 1)]
    assert [row.profit for row in await reports.profit_by_period(pool, "day", 1)] == [1]
    assert sum(row.profit for row in await reports.profit_by_period(pool, "day", 41)) == 15
    assert sum(row.profit for row in await reports.profit_by_period(pool, "month", 3)) == 15
    assert sum(row.trades for row in await reports.profit_by_period(pool, "week", 8)) == 4


async def test_the_curve_takes_the_newest_event_of_each_position(pool: asyncpg.Pool) -> None:
    events = [
        position(n, ts_recv_ns=NOW_NS + n * 10, realised=Decimal(n), unrealised=Decimal("0.5"), fees=Decimal("0.1"))
        for n in range(1, 4)
    ]
    other = position(9, ts_recv_ns=NOW_NS + 25, symbol="ETH/USDT", realised=Decimal(100), unrealised=Decimal(0), fees=Decimal(0))
    await store(pool, *events, other)
    points = await reports.profit_curve(pool, NOW_NS, NOW_NS + 40, 5)
    assert [(point.ts_ns - NOW_NS, point.closed, point.open) for point in points] == [
        (10, Decimal("0.9"), Decimal("0.5")),
        (20, Decimal("1.9"), Decimal("0.5")),
        (30, Decimal("102.9"), Decimal("0.5")),
        (40, Decimal("102.9"), Decimal("0.5")),
    ]
    assert await reports.first_position_ns(pool) == NOW_NS + 10


async def test_candles_and_fills_of_a_market(pool: asyncpg.Pool) -> None:
    candles = [candle(n) for n in range(5)]
    fills = [fill(n, ts_recv_ns=NOW_NS + n) for n in range(3)]
    await store(
        pool,
        *candles,
        *fills,
        fill(9, ts_recv_ns=NOW_NS, external=True, symbol="BTC/USDT"),
    )
    found = await reports.candles_between(pool, "binance", "BTC/USDT", "1m", candles[1].open_ns, candles[3].open_ns)
    assert found == candles[1:4]
    assert await reports.fills_of_market(pool, "binance", "BTC/USDT", NOW_NS + 1, NOW_NS + 2) == fills[1:]


async def test_an_empty_history_has_empty_reports(pool: asyncpg.Pool) -> None:
    assert await reports.profit_summary(pool) == await reports.performance(pool, "symbol") == []
    assert await reports.profit_by_period(pool, "month", 6) == await reports.profit_curve(pool, 0, NOW_NS, 10) == []
    assert await reports.first_position_ns(pool) is None


async def test_stops_and_pauses_hold_until_a_word_ends_them(pool: asyncpg.Pool) -> None:
    def word(number: int, action: str, target: str | None = None) -> cm.Control:
        return cm.Control(
            action=cm.ControlAction(action),
            actor="me",
            reason="test",
            created_at_ns=NOW_NS + number,
            target=target,
            **identity("control", number),
        )

    async def in_force() -> list[tuple[str, str | None]]:
        return [(found.action.value, found.target) for found in await reports.words_in_force(pool)]

    await store(pool, word(1, "halt", "binance"), word(2, "pause"), word(3, "enable", "sma"), word(4, "halt"))
    assert await in_force() == [("halt", "binance"), ("pause", None), ("halt", None)]
    await store(pool, word(5, "resume", "binance"), word(6, "pause", "kraken"))
    assert await in_force() == [("pause", None), ("halt", None), ("pause", "kraken")]
    await store(pool, word(7, "continue"), word(8, "resume"), word(9, "halt", "binance"))
    assert await in_force() == [("halt", "binance")]
