"""The recorder as a process: what is on the bus is in the tables, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import common_models as cm
from bus.connection import Connection
from bus.publisher import StreamPublisher
from bus.streams import Stream, Streams
from postgres import migrate
from postgres.recorder import SHARES, streams_of
from postgres.tables import TABLES
from runtime.settings import Settings
from tests.support.servers import ServerProcess
from tests.support.waiting import eventually
from tests.unit.postgres.samples import NOW_NS, one_of_each, order, trade

ROOT = Path(__file__).resolve().parents[2]
STREAMS = Streams("simulation")
TRADES = STREAMS.market("binance", "trades")
MAIN = "import sys; from postgres.recorder import run; from runtime.settings_loader import load_settings; sys.exit(run(load_settings()))"


class RecorderProcess:
    """A recorder that a test may kill and start again on the same home."""

    def __init__(self, home: Path, bus_url: str, database_url: str) -> None:
        self.environ = {
            **os.environ,
            "TRADEBOT_HOME": str(home),
            "TRADEBOT__BUS__URL": bus_url,
            "TRADEBOT__POSTGRES__URL": database_url,
            "TRADEBOT__RECORDER__PORT": "0",
            "TRADEBOT__RECORDER__BOOK_INTERVAL_S": "0",
            "TRADEBOT__EXCHANGES__BINANCE__PORT": "0",
            "PYTHONPATH": str(ROOT),
        }
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", MAIN], env=self.environ, cwd=self.home, stdin=subprocess.DEVNULL)

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(15)


@pytest.fixture
def recorder(own_valkey: Callable[[], ServerProcess], database_url: str, tmp_path: Path) -> Iterator[RecorderProcess]:
    migrate.upgrade(database_url, "simulation")
    process = RecorderProcess(tmp_path, own_valkey().url, database_url)
    yield process
    if process.process is not None and process.process.poll() is None:
        process.end(signal.SIGKILL)


@pytest.fixture
async def publisher(recorder: RecorderProcess) -> AsyncIterator[StreamPublisher]:
    opened = StreamPublisher(recorder.environ["TRADEBOT__BUS__URL"], "test")
    await opened.start()
    yield opened
    await opened.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "simulation"})
    yield connection
    await connection.close()


def stream_of(message: cm.Message) -> Stream:
    kinds = {cm.Trade: "trades", cm.AggregateTrade: "trades", cm.Ticker: "tickers", cm.OrderBook: "books", cm.DayStats: "daystats"}
    kinds |= {cm.Candle: "candles", cm.FundingRate: "funding", cm.Instrument: "instruments", cm.Gap: "trades"}
    account = {
        cm.OrderUpdate: "orders",
        cm.Fill: "fills",
        cm.Balance: "balances",
        cm.Position: "positions",
        cm.ConnectorStatus: "status",
    }
    shared = {cm.Signal: STREAMS.signals, cm.Decision: STREAMS.decisions, cm.RoundTrip: STREAMS.round_trips}
    shared |= {cm.Alert: STREAMS.alerts, cm.Control: STREAMS.control, cm.PluginStatus: STREAMS.plugins}
    kind = type(message)
    if kind in kinds:
        return STREAMS.market("binance", kinds[kind])
    return STREAMS.account("binance", "main", account[kind]) if kind in account else shared[kind]


async def count(database: asyncpg.Connection, table: str) -> int:
    found: int = await database.fetchval(f"SELECT count(*) FROM {table}")
    return found


async def test_every_kind_of_message_on_the_bus_reaches_its_table_and_a_signal_ends_it_cleanly(
    recorder: RecorderProcess, publisher: StreamPublisher, database: asyncpg.Connection
) -> None:
    recorder.start()
    for message in one_of_each():
        publisher.put(stream_of(message), message)
    tables = {name for table in TABLES.values() for name in table.names}

    async def all_stored() -> bool:
        return all([await count(database, table) for table in tables])

    await eventually(all_stored, 15)
    assert recorder.end(signal.SIGTERM) == 0
    assert not list((recorder.home / "run").glob("recorder.*"))


async def test_killed_mid_batch_every_entry_is_stored_once(
    recorder: RecorderProcess, publisher: StreamPublisher, database: asyncpg.Connection
) -> None:
    total = 12_000
    recorder.start()
    for start in range(0, total, 500):
        publisher.put_many(TRADES, (trade(n, ts_event_ns=NOW_NS + n) for n in range(start, start + 500)))
        publisher.put(STREAMS.account("binance", "main", "orders"), order(start // 500 + 1))
        await publisher.flushed()
        if start in (4_000, 8_000):
            seen = await count(database, "trades")
            await eventually(lambda seen=seen: more_than(database, seen), 15)
            recorder.end(signal.SIGKILL)
            recorder.start()

    async def all_there() -> bool:
        return await count(database, "trades") == total and await count(database, "order_events") == total // 500

    await eventually(all_there, 20)
    assert await database.fetchval("SELECT count(DISTINCT trade_id) FROM trades") == total
    assert await database.fetchval("SELECT revision FROM orders") == total // 500


async def test_what_the_recorder_had_in_hand_when_it_was_killed_does_not_hold_up_the_next_one(
    recorder: RecorderProcess, publisher: StreamPublisher, database: asyncpg.Connection
) -> None:
    """A whole batch comes back entry by entry: that must not take a lingering wait each."""
    connection = await Connection.open(recorder.environ["TRADEBOT__BUS__URL"], name="test")
    publisher.put_many(TRADES, (trade(n) for n in range(1000)))
    await publisher.flushed()
    await connection.command("XGROUP", "CREATE", TRADES.name, "recorder", "0")
    await connection.command("XREADGROUP", "GROUP", "recorder", "recorder-market", "COUNT", 1000, "STREAMS", TRADES.name, ">")
    connection.close()

    recorder.start()
    await eventually(lambda: more_than(database, 999), 15)


async def more_than(database: asyncpg.Connection, seen: int) -> bool:
    return await count(database, "trades") > seen


async def test_a_bad_row_goes_to_the_dead_letters_with_its_reason_and_the_rest_is_stored(
    recorder: RecorderProcess, publisher: StreamPublisher, database: asyncpg.Connection
) -> None:
    recorder.start()
    publisher.put_many(TRADES, [trade(1), trade(2, trade_id="a\x00b"), trade(3)])
    await eventually(lambda: more_than(database, 1), 15)
    letters = await eventually(lambda: dead_letters(recorder.environ["TRADEBOT__BUS__URL"]), 15)
    assert len(letters) == 1
    text = str(letters[0])
    assert "CharacterNotInRepertoire" in text
    assert TRADES.name in text


async def dead_letters(url: str) -> Sequence[Any]:
    connection = await Connection.open(url, name="test")
    try:
        found: Sequence[Any] = await connection.command("XRANGE", STREAMS.dead_letters.name, "-", "+")
        return found
    finally:
        connection.close()


def test_the_intakes_cover_every_stream_that_has_a_table() -> None:
    settings = Settings.model_validate({"exchanges": {"binance": {"port": 1}, "luno": {"port": 2, "account": "second"}}})
    found = [stream.name for share in SHARES.values() for stream in streams_of(settings, STREAMS, share)]
    assert len(found) == len(set(found))
    assert {stream_of(message).name for message in one_of_each()} <= set(found)
    assert "simulation:events:{luno}:second:fills" in found


def test_retention_of_a_table_without_partitions_is_refused(recorder: RecorderProcess) -> None:
    recorder.environ["TRADEBOT__RECORDER__KEEP_DAYS"] = "{fills: 3}"
    recorder.start()
    assert recorder.process is not None
    assert recorder.process.wait(15) == 1
