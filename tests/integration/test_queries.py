"""What is read back is what was stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

import common_models as cm
from postgres import migrate, queries
from postgres.pool import open_pool
from postgres.tables import TABLES
from postgres.writer import HistoryWriter
from runtime.settings import PostgresSettings
from tests.unit.postgres.samples import (
    NOW_NS,
    balance,
    candle,
    decision,
    fill,
    one_of_each,
    order,
    position,
    round_trip,
    signal,
    trade,
)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    await asyncio.to_thread(migrate.upgrade, database_url, "simulation")
    async with await open_pool(database_url, "simulation", PostgresSettings(pool_size=2)) as opened:
        yield opened


async def store(pool: asyncpg.Pool, *messages: cm.Message) -> None:
    async with pool.acquire() as connection:
        await HistoryWriter().store(connection, messages)


async def test_recent_candles_are_the_newest_oldest_first(pool: asyncpg.Pool) -> None:
    stored = [candle(n) for n in range(6)]
    await store(pool, *stored, candle(9, timeframe="5m"), candle(9, symbol="ETH/USDT"), candle(10, closed=False))
    assert await queries.recent_candles(pool, "binance", "BTC/USDT", "1m", 4) == stored[2:]
    assert await queries.recent_candles(pool, "binance", "BTC/USDT", "1m", 0) == []
    assert await queries.recent_candles(pool, "luno", "BTC/USDT", "1m", 4) == []


async def test_orders_read_back_as_they_were_published(pool: asyncpg.Pool) -> None:
    done = order(2, client_order_id="done", exchange_order_id="12", status=cm.OrderStatus.FILLED, ts_recv_ns=NOW_NS + 9)
    unsure = order(1, client_order_id="unsure", exchange_order_id="", status=cm.OrderStatus.UNKNOWN, operator_review=True)
    elsewhere = order(3, account="second", client_order_id="elsewhere", exchange_order_id="13", ts_recv_ns=NOW_NS)
    await store(pool, done, unsure, elsewhere)

    assert await queries.open_orders(pool) == [elsewhere, unsure]
    assert await queries.open_orders(pool, "binance", "main") == [unsure]
    assert await queries.recent_orders(pool, 1) == [done]
    assert await queries.order_by_id(pool, "12") == done == await queries.order_by_id(pool, "done")
    assert await queries.order_by_id(pool, "") is None
    assert await queries.order_by_id(pool, "' OR 1=1 --") is None
    await store(pool, order(1, client_order_id="done"))
    assert [state.revision for state in await queries.order_history(pool, "done")] == [1, 2]


async def test_fills_positions_balances_and_round_trips_read_back(pool: asyncpg.Pool) -> None:
    fills = [fill(n, ts_recv_ns=NOW_NS + n) for n in range(4)]
    await store(
        pool, *fills, position(1), position(2), balance(1), balance(2), round_trip(1), round_trip(2), signal(1), decision(1)
    )

    assert await queries.fills_since(pool, "binance", "main", NOW_NS + 2) == fills[2:]
    assert await queries.recent_fills(pool, 2) == [fills[3], fills[2]]
    assert await queries.fills_of_order(pool, fills[0].client_order_id) == fills
    assert await queries.positions(pool) == [position(2)]
    assert await queries.balances(pool) == [balance(2)]
    assert await queries.recent_round_trips(pool, 5) == [round_trip(2), round_trip(1)]
    assert await queries.recent_signals(pool, 5) == [signal(1)]
    assert await queries.recent_decisions(pool, 5) == [decision(1)]


async def test_counts_and_coverage_say_what_is_there(pool: asyncpg.Pool) -> None:
    await store(pool, *one_of_each(), trade(2, ts_event_ns=NOW_NS + 60))
    counts = await queries.table_counts(pool)
    assert counts["trades"] == 3
    assert all(counts.values())
    assert set(counts) == {name for table in TABLES.values() for name in table.names}

    found = {(one.kind, one.timeframe): one for one in await queries.coverage(pool)}
    assert (found["trade", ""].rows, found["trade", ""].first_ns, found["trade", ""].last_ns) == (2, NOW_NS, NOW_NS + 60)
    assert found["candle", "1m"].rows == found["aggregate", ""].rows == 1
    assert [one.native_symbol for one in await queries.instruments(pool, "binance")] == ["BTCUSDT"]
