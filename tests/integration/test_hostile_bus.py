"""Rubbish among the messages of command, account and market streams: handled, parked or counted, and what is good goes on."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bot.event_loop import EventLoop
from bot.isolation.in_process import InProcessWorkers
from bus.client import open_redis
from bus.codec import MAX_MESSAGE_BYTES, CodecError, decode, encode
from bus.consumer import StreamConsumer
from bus.lanes import FIELD
from bus.publisher import StreamPublisher
from bus.reader import TailReader
from bus.streams import Stream, Streams
from common_models import AnyMessage, Liquidity, Message, Side
from postgres import migrate
from postgres.intake import Intake
from postgres.pool import Link
from postgres.spool import Spool
from postgres.thinning import Thinner
from runtime.settings import PostgresSettings, Settings
from tests.fakes.binance_fake import FakeBinance
from tests.fakes.trading_desk import Desk
from tests.support.mutations import mutate
from tests.support.waiting import eventually
from tests.unit.postgres.samples import NOW_NS, one_of_each, trade

SEED = 20_261_121


def rubbish(messages: list[Message], count: int, rng: random.Random) -> list[dict[str, bytes]]:
    """Entries as an enemy or a bug would write them: mutated messages, other fields, other forms."""
    bodies = [encode(message) for message in messages]
    entries = [{FIELD: mutate(rng.choice(bodies), rng)} for _ in range(count)]
    entries += [{"x": b"1"}, {FIELD: b"", "more": b"2"}, {FIELD: b"null"}, {FIELD: b"[" * 100_000}, {FIELD: b"9" * 300_000}]
    rng.shuffle(entries)
    return entries


async def write(url: str, stream: Stream, entries: list[dict[str, bytes]]) -> None:
    async with open_redis(url) as redis, redis.pipeline(transaction=False) as pipe:
        for entry in entries:
            pipe.xadd(stream.name, entry)  # type: ignore[arg-type]
        await pipe.execute()


async def pending(url: str, stream: Stream, group: str) -> tuple[int, int]:
    """How many entries the group has in hand, and how many it has not read."""
    async with open_redis(url) as redis:
        [row] = [row for row in await redis.xinfo_groups(stream.name) if row["name"] == group.encode()]
        return row["pending"], row["lag"]


@asynccontextmanager
async def run(work: Callable[[asyncio.Event], Awaitable[None]]) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.ensure_future(work(stop))
    try:
        yield
        assert not task.done()
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


async def test_rubbish_in_the_command_stream_places_nothing_and_the_next_command_is_carried_out(
    tmp_path: Path, valkey_url: str
) -> None:
    async with FakeBinance().running() as venue:
        desk = Desk(home=tmp_path, url=valkey_url, venue=venue)
        stream, rng = desk.streams.commands("binance", desk.account), random.Random(SEED)
        async with desk.serving():
            good = desk.order()
            room = MAX_MESSAGE_BYTES - len(encode(desk.order(strategy="")))
            huge = desk.order(strategy="s" * (room - 20))  # fits the bus, and the answer to it would not
            await write(valkey_url, stream, [{FIELD: encode(huge)}])
            await write(valkey_url, stream, rubbish([desk.order(), desk.cancel(desk.order())], 100, rng))
            await write(valkey_url, stream, [{FIELD: encode(message)} for message in one_of_each()])
            await desk.give(good)
            await desk.reaches(good, "OPEN")
            await eventually(lambda: _settled(valkey_url, stream, "connector"))
            running = desk.running
            assert running is not None
            assert running._ledger.unpublishable
            orders = dict(running._journal.orders)
            later = desk.order()
            running._ledger.republish()  # as every second: what cannot be published keeps nothing else back
            await desk.give(later)
            await desk.reaches(later, "OPEN")
        for order in venue.orders:  # a mutation may be a valid command, then the venue has just that
            if order.client_id in orders:
                assert Decimal(order.params["quantity"]) == orders[order.client_id].terms.quantity


async def _settled(url: str, stream: Stream, group: str) -> bool:
    return await pending(url, stream, group) == (0, 0)


def fill(number: int, **changes: Any) -> dict[str, Any]:
    fields = {
        "kind": "fill", "exchange": "binance", "account": "main", "ts_event_ns": NOW_NS, "ts_recv_ns": NOW_NS, "trade_id": str(number),
        "client_order_id": "x", "exchange_order_id": "1", "symbol": "BTC/USDT", "side": Side.BUY.value, "price": "100", "quantity": "1",
        "quote_quantity": "100", "fee": "0", "fee_asset": "USDT", "liquidity": Liquidity.TAKER.value, "strategy": "consensus",
    }  # fmt: skip
    return fields | changes


IMPOSSIBLE = [
    {"symbol": ""}, {"symbol": "BTCUSDT"}, {"quantity": "-1"}, {"quantity": "0"}, {"price": "1E60"}, {"price": "1E-60"},
    {"quantity": "0." + "1" * 60, "price": "0." + "1" * 55}, {"fee": "1E59"}, {"ts_recv_ns": 10**30}, {"ts_event_ns": -(10**400)},
]  # fmt: skip


async def test_rubbish_in_the_account_streams_books_nothing_and_the_bot_starts_again_with_what_was_good(
    tmp_path: Path, valkey_url: str, mode: str
) -> None:
    rng, settings = random.Random(SEED), Settings.model_validate({"home": tmp_path, "exchanges": {"binance": {"port": 0}}})
    stream = Streams(mode).account("binance", "main", "fills")
    publisher = StreamPublisher(valkey_url, "bot")
    loop = EventLoop(settings, publisher, InProcessWorkers())
    loop.open()
    await publisher.start()
    consumer = StreamConsumer(valkey_url, [stream], "bot", "bot", block_ms=100)
    bad = [json.dumps(fill(number, **changes)).encode() for number, changes in enumerate(IMPOSSIBLE, start=1000)]
    async with run(lambda stop: consumer.run(loop.account_events.handle, stop)):
        await write(valkey_url, stream, [{FIELD: body} for body in bad])
        await write(valkey_url, stream, rubbish(list(one_of_each()), 150, rng))
        await write(valkey_url, stream, [{FIELD: json.dumps(fill(number)).encode()} for number in range(3)])
        [key] = await eventually(lambda: [key for key, ledger in loop.portfolio.ledgers.items() if ledger.has("2")], 15)
        assert loop.portfolio.quantity(key) == 3
        await eventually(lambda: _settled(valkey_url, stream, "bot"))
        loop.tidy(tell_positions=True)
        assert consumer.work is not None
        assert consumer.work.parked >= len(IMPOSSIBLE)
    await publisher.close()
    loop.close()

    again = EventLoop(settings, publisher, InProcessWorkers())
    again.open()
    assert again.portfolio.quantity(key) == 3
    again.close()


@pytest.fixture
async def intake(database_url: str, tmp_path: Path) -> AsyncIterator[Intake]:
    await asyncio.to_thread(migrate.upgrade, database_url, "simulation")
    link = Link(lambda: database_url, "simulation", PostgresSettings())
    letters: list[Any] = []

    async def park(parked: Any) -> None:
        letters.extend(parked)

    quiet: Any = lambda *_: None  # noqa: E731
    made = Intake("all", link, Spool(tmp_path, 10_000_000), Thinner({}), park=park, report=quiet, tell=quiet, batch_rows=100)
    yield made
    await made.close()


async def test_rubbish_in_market_streams_costs_the_recorder_only_itself(
    intake: Intake, database_url: str, valkey_url: str, mode: str
) -> None:
    rng, stream = random.Random(SEED), Streams(mode).market("binance", "trades")
    consumer = StreamConsumer(valkey_url, [stream], "recorder", "r", block_ms=100)
    good = [encode(trade(number)) for number in range(900_000, 900_050)]
    entries = rubbish(list(one_of_each()), 400, rng) + [{FIELD: body} for body in good]
    rng.shuffle(entries)
    async with run(lambda stop: consumer.run(intake.handle, stop)):
        await write(valkey_url, stream, entries)
        await eventually(lambda: _settled(valkey_url, stream, "recorder"), 15)
        assert consumer.work is not None
        assert consumer.work.parked > 100
    connection = await asyncpg.connect(database_url)
    stored = await connection.fetchval("SELECT count(*) FROM simulation.trades WHERE trade_id::numeric BETWEEN 900000 AND 900049")
    await connection.close()
    assert stored == len(good)


async def test_rubbish_in_a_market_stream_is_a_gap_to_a_tail_reader_and_the_next_message_arrives(
    valkey_url: str, mode: str
) -> None:
    stream, seen = Streams(mode).market("binance", "trades"), Counter[str]()

    def handle(_: str, message: AnyMessage) -> None:
        seen[getattr(message, "trade_id", type(message).__name__)] += 1

    reader = TailReader(valkey_url, [stream], "0", block_ms=100)
    async with run(lambda stop: reader.run(handle, stop)):
        await write(valkey_url, stream, rubbish([trade(1)], 200, random.Random(SEED)))
        await write(valkey_url, stream, [{FIELD: encode(trade(777))}])
        await eventually(lambda: seen["777"])
    assert seen["Gap"]


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
def test_whole_numbers_wider_than_64_bits_are_no_message(number: int) -> None:
    for field in ("ts_recv_ns", "ts_event_ns", "ts_pub_ns", "schema_version"):
        with pytest.raises(CodecError):
            decode(json.dumps(fill(1, **{field: number})).encode())


def test_all_that_decodes_can_be_written_again() -> None:
    """What passes the door must not fail behind it: in a journal, a spool, a dead letter."""
    rng, bodies = random.Random(SEED), [encode(message) for message in one_of_each()]
    passed = 0
    for _ in range(20_000):
        try:
            message = decode(mutate(rng.choice(bodies), rng))
        except CodecError:
            continue
        passed += 1
        assert decode(encode(message)) == message
    assert passed > 2_000
