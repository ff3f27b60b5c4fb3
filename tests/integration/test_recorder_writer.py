"""Batches into tables: each row once, exactly, and one bad row costs only itself."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

import common_models as cm
from bus.codec import decode, encode
from common_models.timestamps import datetime_to_ns
from postgres import migrate
from postgres.partitions import DAY_NS, maintain, partition_names
from postgres.pool import Link, retrying
from postgres.writer import CAREFUL_BATCHES, HistoryWriter
from runtime.settings import PostgresSettings
from tests.unit.postgres.samples import NOW_NS, balance, book, candle, decision, one_of_each, order, position, ticker, trade

MIDNIGHT_NS = datetime_to_ns(datetime(2025, 11, 22, tzinfo=UTC))


@pytest.fixture(scope="module")
def migrated_schema(postgres_url: str) -> Iterator[str]:
    """A schema of these tests; each of them rolls back what it did."""
    schema = f"writer{os.getpid()}"
    migrate.upgrade(postgres_url, schema)
    yield schema
    migrate.downgrade(postgres_url, schema, "base")


@pytest.fixture
async def connection(postgres_url: str, migrated_schema: str) -> AsyncIterator[asyncpg.Connection]:
    link = Link(lambda: postgres_url, migrated_schema, PostgresSettings())
    opened = await link.connection()
    transaction = opened.transaction()
    await transaction.start()
    yield opened
    await transaction.rollback()
    await link.close()


@pytest.fixture
async def committing(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database of the test's own, for those that need a second connection to see what the first did."""
    await asyncio.to_thread(migrate.upgrade, database_url, "simulation")
    link = Link(lambda: database_url, "simulation", PostgresSettings())
    yield await link.connection()
    await link.close()


async def rows(connection: asyncpg.Connection, table: str) -> list[Any]:
    return await connection.fetch(f"SELECT * FROM {table} ORDER BY message_id")


async def test_a_message_of_every_kind_is_stored_in_one_batch(connection: asyncpg.Connection) -> None:
    stored = await HistoryWriter().store(connection, one_of_each())

    assert stored.refused == []
    assert set(stored.rows) == {
        *(
            "plugins",
            "trades",
            "tickers",
            "order_books",
            "day_stats",
            "ohlcv",
            "funding_rates",
            "instruments",
            "orders",
            "order_events",
            "fills",
        ),
        *(
            "balances",
            "balance_events",
            "positions",
            "position_events",
            "round_trips",
            "signals",
            "decisions",
            "alerts",
            "controls",
        ),
        *("connector_status", "gaps"),
    }
    for table, count in stored.rows.items():
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == count, table


async def test_a_replay_three_times_stores_once(connection: asyncpg.Connection) -> None:
    batch = [*one_of_each(), *(trade(n) for n in range(2, 200))]
    writer = HistoryWriter()
    first = await writer.store(connection, batch)
    for _ in range(2):
        random.Random(7).shuffle(batch)
        again = await writer.store(connection, batch)
        assert again.refused == []
        latest_only = 5  # orders, balances, positions, plugins and instruments
        assert again.duplicates == sum(first.rows.values()) - latest_only

    for table, count in first.rows.items():
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == count, table


async def test_a_batch_that_is_half_known_stores_the_other_half(connection: asyncpg.Connection) -> None:
    writer = HistoryWriter()
    await writer.store(connection, [trade(n) for n in range(10)])
    stored = await writer.store(connection, [trade(n) for n in range(5, 15)] + [trade(14)])
    assert (stored.rows["trades"], stored.duplicates) == (5, 6)


async def test_copying_is_taken_up_again_after_a_replay(connection: asyncpg.Connection) -> None:
    writer = HistoryWriter()
    await writer.store(connection, [trade(1)])
    for _ in range(CAREFUL_BATCHES):
        await writer.store(connection, [trade(1)])
    await connection.execute("DROP TABLE pg_temp.staging_trades")
    await writer.store(connection, [trade(2)])
    assert await connection.fetchval("SELECT to_regclass('pg_temp.staging_trades')") is None


async def test_trades_and_aggregates_with_the_same_number_are_different(connection: asyncpg.Connection) -> None:
    later = trade(1, ts_event_ns=NOW_NS + 1, message_id="later")
    stored = await HistoryWriter().store(connection, [*(m for m in one_of_each() if isinstance(m, cm.Trade)), later])
    assert stored.rows["trades"] == 3


@pytest.mark.parametrize(
    "number",
    [
        *("0", "0.000000000000000001", "999999999999999999.999999999999999999", "64000.10", "100", "0.00000000", "1E-18"),
        *("123456789012345678901234567890.123456789012345678901234567890", "0." + "0" * 59 + "1"),
    ],
)
async def test_numbers_come_back_to_the_last_digit(connection: asyncpg.Connection, number: str) -> None:
    """Also what a numeric(38, 18) would have rounded, through the bus's own form and back."""
    sent = decode(encode(trade(price=Decimal(number), size=Decimal(number))))
    await HistoryWriter().store(connection, [sent, position(cost=-Decimal(number), realised=Decimal(number))])

    (row,) = await rows(connection, "trades")
    assert (row["price"], row["size"]) == (Decimal(number), Decimal(number))
    assert row["price"].as_tuple() == Decimal(format(Decimal(number), "f")).as_tuple(), "trailing zeros are kept too"
    (row,) = await rows(connection, "positions")
    assert (row["cost"], row["realised"]) == (-Decimal(number), Decimal(number))


async def test_books_keep_their_levels_and_an_invalid_book_has_none(connection: asyncpg.Connection) -> None:
    await HistoryWriter().store(connection, [book(1), book(2, valid=False, bids=(), asks=())])
    full, empty = await rows(connection, "order_books")
    assert full["bids"] == [["64000.10", "1.50"], ["64000.00", "2"]]
    assert (empty["valid"], empty["bids"], empty["asks"]) == (False, [], [])


async def test_only_closed_candles_become_history(connection: asyncpg.Connection) -> None:
    stored = await HistoryWriter().store(connection, [candle(1, closed=False), candle(1), candle(2)])
    assert (stored.rows["ohlcv"], stored.skipped) == (2, 1)


@pytest.mark.parametrize("order_of_arrival", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
async def test_an_older_order_state_never_replaces_a_newer_one(
    connection: asyncpg.Connection, order_of_arrival: tuple[int, ...]
) -> None:
    states = {1: cm.OrderStatus.OPEN, 2: cm.OrderStatus.PARTIALLY_FILLED, 3: cm.OrderStatus.FILLED}
    for split in (1, 3):
        updates = [order(revision, status=states[revision], client_order_id=f"split{split}") for revision in order_of_arrival]
        for start in range(0, 3, split):
            await HistoryWriter().store(connection, updates[start : start + split])
    assert [row["status"] for row in await rows(connection, "orders")] == ["FILLED", "FILLED"]
    assert await connection.fetchval("SELECT count(*) FROM order_events") == 6


async def test_the_latest_balance_wins_and_every_one_is_kept(connection: asyncpg.Connection) -> None:
    await HistoryWriter().store(connection, [balance(1), balance(3)])
    await HistoryWriter().store(connection, [balance(2)])
    assert [row["locked"] for row in await rows(connection, "balances")] == [3]
    assert [row["locked"] for row in await rows(connection, "balance_events")] == [1, 2, 3]


POISON = {
    "NUL in a trade id": trade(99, trade_id="a\x00b"),
    "NUL in a reason": order(99, reason="bad\x00", client_order_id="other"),
    "NUL inside numbers": decision(99, numbers={"x": "\x00"}),
    "lone surrogate in a symbol": ticker(99, symbol="BTC/\ud800"),
    "sequence beyond bigint": book(99, sequence=2**63),
    "a key too long for its index": trade(98, trade_id="".join(random.Random(1).choices("0123456789abcdef", k=20_000))),
    "text where a number belongs": ticker(97, bid_price="not a number"),
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
async def test_one_bad_row_is_refused_with_a_reason_and_the_rest_is_stored(
    connection: asyncpg.Connection, poison: cm.Message
) -> None:
    good = [*(trade(n) for n in range(20)), *one_of_each()[2:], *(ticker(n) for n in range(2, 9))]
    writer = HistoryWriter()
    stored = await writer.store(connection, [*good[:7], poison, *good[7:]])

    assert [refused.message for refused in stored.refused] == [poison]
    assert stored.refused[0].reason
    assert (stored.rows["trades"], stored.rows["tickers"], stored.rows["fills"], stored.rows["decisions"]) == (20, 8, 1, 1)
    assert (await writer.store(connection, [trade(500)])).rows["trades"] == 1


async def test_many_bad_rows_and_strange_but_good_text(connection: asyncpg.Connection) -> None:
    batch = [trade(n, symbol="a\x00b") if n % 3 else trade(n, symbol="这是测试币456/USDT") for n in range(60)]
    stored = await HistoryWriter().store(connection, [*batch, trade(1, symbol="tab\tnewline\nquote'back\\slash;--")])
    assert (len(stored.refused), stored.rows["trades"]) == (40, 21)


async def test_partitions_are_made_ahead_and_rows_across_midnight_land_in_their_day(connection: asyncpg.Connection) -> None:
    done = await maintain(connection, MIDNIGHT_NS - 1, {})
    assert {"trades_20251121", "trades_20251122", "trades_20251123", "tickers_20251121"} <= set(done.created)
    assert (await maintain(connection, MIDNIGHT_NS - 1, {})).created == []

    edges = [
        trade(1, ts_event_ns=MIDNIGHT_NS - 1),
        trade(2, ts_event_ns=MIDNIGHT_NS),
        trade(3, ts_event_ns=MIDNIGHT_NS + 400 * DAY_NS),
    ]
    await HistoryWriter().store(connection, edges)
    found = await connection.fetch("SELECT tableoid::regclass::text AS place FROM trades ORDER BY ts_event_ns")
    assert [row["place"] for row in found] == ["trades_20251121", "trades_20251122", "trades_default"]


async def test_rows_that_came_before_their_partition_are_moved_into_it(connection: asyncpg.Connection) -> None:
    await HistoryWriter().store(connection, [trade(1, ts_event_ns=MIDNIGHT_NS - 1), trade(2, ts_event_ns=MIDNIGHT_NS)])
    await maintain(connection, MIDNIGHT_NS, {})
    places = await connection.fetch("SELECT tableoid::regclass::text AS place FROM trades ORDER BY ts_event_ns")
    assert [row["place"] for row in places] == ["trades_default", "trades_20251122"]
    assert (await HistoryWriter().store(connection, [trade(2, ts_event_ns=MIDNIGHT_NS)])).duplicates == 1


async def test_retention_drops_whole_days_of_the_named_tables_only(connection: asyncpg.Connection) -> None:
    for day in range(5):
        await maintain(connection, MIDNIGHT_NS + day * DAY_NS, {})
    stored = [trade(n, ts_event_ns=MIDNIGHT_NS + n * DAY_NS) for n in range(5)]
    await HistoryWriter().store(connection, [*stored, *(ticker(n, ts_recv_ns=MIDNIGHT_NS + n * DAY_NS) for n in range(5))])

    done = await maintain(connection, MIDNIGHT_NS + 4 * DAY_NS, {"trades": 2, "tickers": 0})

    assert done.dropped == ["trades_20251122", "trades_20251123"]
    assert await connection.fetchval("SELECT count(*) FROM trades") == 3
    assert await connection.fetchval("SELECT count(*) FROM tickers") == 5


async def test_an_old_replay_is_kept_as_long_as_other_rows_from_when_we_got_it(connection: asyncpg.Connection) -> None:
    now_ns = MIDNIGHT_NS
    long_ago = 1_600_000_000_000_000_000
    old, fresh = (trade(n, ts_event_ns=long_ago, ts_pub_ns=now_ns - days * DAY_NS) for n, days in ((1, 3), (2, 1)))
    await HistoryWriter().store(connection, [old, fresh])
    done = await maintain(connection, now_ns, {"trades": 2})
    assert done.deleted_rows == 1
    assert await connection.fetchval("SELECT trade_id FROM trades") == "2"


async def test_maintenance_waits_for_no_lock_for_long(
    committing: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postgres.partitions.LOCK_TIMEOUT_MS", 50)
    reader = await asyncpg.connect(database_url)
    async with reader.transaction():
        await reader.execute("LOCK TABLE simulation.trades IN ACCESS EXCLUSIVE MODE")
        await reader.execute("LOCK TABLE simulation.tickers_default IN ROW EXCLUSIVE MODE")
        done = await maintain(committing, MIDNIGHT_NS, {})
    await reader.close()
    assert {entry.partition("_2")[0] for entry in done.postponed} == {"trades", "tickers"}
    assert "order_books_20251122" in done.created
    assert (await maintain(committing, MIDNIGHT_NS, {})).postponed == []
    assert "trades_20251122" in await partition_names(committing)


async def test_a_transaction_that_lost_a_deadlock_is_run_again(committing: asyncpg.Connection, database_url: str) -> None:
    await HistoryWriter().store(committing, [balance(1), balance(1, asset="BTC")])
    other = await asyncpg.connect(database_url, server_settings={"search_path": "simulation"})
    both_locked, attempts = asyncio.Barrier(2), []

    async def swap(by: asyncpg.Connection, first: str, second: str) -> None:
        async with by.transaction():
            await by.execute("UPDATE balances SET free = free + 1 WHERE asset = $1", first)
            attempts.append(first)
            if len(attempts) <= 2:
                await asyncio.wait_for(both_locked.wait(), 5)
            await by.execute("UPDATE balances SET free = free + 1 WHERE asset = $1", second)

    await asyncio.gather(retrying(lambda: swap(committing, "BTC", "USDT")), retrying(lambda: swap(other, "USDT", "BTC")))
    await other.close()
    assert len(attempts) > 2
    assert [row["free"] for row in await rows(committing, "balances")] == [Decimal("101.50")] * 2
