"""The bus under faults of its server: killed, frozen, emptied, full, read-only; every acknowledged message has one effect."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from bus.client import open_redis
from bus.connection import Connection
from bus.consumer import StreamConsumer
from bus.errors import AuthRefused, BufferFull, BusUnavailable
from bus.interfaces import Delivery
from bus.publisher import BusLimits, StreamPublisher
from bus.reader import TailReader
from bus.streams import Stream, Streams
from common_models import AnyMessage, Gap, Signal
from tests.support.servers import ServerProcess
from tests.support.waiting import eventually
from tests.unit.bus.messages import signal

Valkey = Callable[..., ServerProcess]


class Effects:
    """A consumer's and a reader's handler: what had an effect, and what was told missing."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.gaps: list[Gap] = []

    async def consume(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self.tail(delivery.stream, delivery.message)

    def tail(self, _: str, message: AnyMessage) -> None:
        if isinstance(message, Gap):
            self.gaps.append(message)
        elif isinstance(message, Signal):
            self.seen.append(message.reason)

    @property
    def missed(self) -> int:
        return sum(gap.count or 0 for gap in self.gaps)


@asynccontextmanager
async def running(run: Callable[[Any, asyncio.Event], Any], handle: Any) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run(handle, stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


@asynccontextmanager
async def publishing(url: str, limits: BusLimits | None = None) -> AsyncIterator[StreamPublisher]:
    publisher = StreamPublisher(url, "p", limits=limits)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.close(grace_s=0.1)


def put(publisher: StreamPublisher, stream: Stream, first: int, count: int) -> None:
    publisher.put_many(stream, [signal(str(number)) for number in range(first, first + count)])


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


async def test_a_killed_server_loses_nothing_acknowledged_and_repeats_no_effect(own_valkey: Valkey, mode: str) -> None:
    server, stream = own_valkey(), Streams(mode).signals
    effects, tail = Effects(), Effects()
    count, done = 0, False
    async with (
        publishing(server.url) as publisher,
        running(StreamConsumer(server.url, [stream], "g", "one").run, effects.consume),
        running(TailReader(server.url, [stream], "0").run, tail.tail),
    ):

        async def load() -> None:
            nonlocal count
            while not done:
                put(publisher, stream, count, 20)
                count += 20
                await asyncio.sleep(0.001)

        loading = asyncio.create_task(load())
        for kill in range(1, 6):
            published = publisher.published
            await eventually(lambda least=published + 300: publisher.published > least)
            await asyncio.to_thread(server.restart)
            await eventually(lambda wanted=kill + 1: publisher.connects == wanted)
        done = True
        await loading
        await publisher.flushed()
        await eventually(lambda: len(effects.seen) >= count and len(tail.seen) >= count)
        assert publisher.published == count
    assert effects.seen == numbers(count)
    assert tail.seen == numbers(count)
    assert not effects.gaps
    assert not tail.gaps


async def test_a_server_that_restarts_empty_is_noticed_and_read_from_its_start(own_valkey: Valkey, mode: str) -> None:
    server, stream = own_valkey(), Streams(mode).signals
    effects, tail = Effects(), Effects()
    async with (
        publishing(server.url) as publisher,
        running(StreamConsumer(server.url, [stream], "g", "one").run, effects.consume),
        running(TailReader(server.url, [stream], "0").run, tail.tail),
    ):
        put(publisher, stream, 0, 10)
        await eventually(lambda: len(effects.seen) == len(tail.seen) == 10)
        server.kill()
        for folder in server.server.home.rglob("appendonlydir"):
            shutil.rmtree(folder)
        await asyncio.to_thread(server.start)
        await eventually(lambda: effects.gaps and tail.gaps)
        put(publisher, stream, 10, 10)
        await eventually(lambda: len(effects.seen) == len(tail.seen) == 20)
    assert effects.seen == tail.seen == numbers(20)
    for gap in (*effects.gaps, *tail.gaps):
        assert "lost the stream" in gap.reason
        assert gap.count is None


async def test_a_frozen_server_costs_time_and_nothing_else(own_valkey: Valkey, mode: str) -> None:
    server, stream = own_valkey(), Streams(mode).signals
    effects = Effects()
    consumer = StreamConsumer(server.url, [stream], "g", "one", block_ms=200, reply_timeout_s=0.3)
    async with (
        publishing(server.url, BusLimits(reply_timeout_s=0.3)) as publisher,
        running(consumer.run, effects.consume),
    ):
        put(publisher, stream, 0, 10)
        await eventually(lambda: len(effects.seen) == 10)
        server.freeze()
        put(publisher, stream, 10, 500)
        await eventually(lambda: not publisher.connected)
        put(publisher, stream, 510, 10)
        server.thaw()
        await publisher.flushed()
        await eventually(lambda: len(effects.seen) >= 520)
    assert effects.seen == numbers(520)
    async with open_redis(server.url) as redis:
        assert await redis.xlen(stream.name) >= 520


async def test_a_lost_acknowledgement_makes_a_copy_and_no_second_effect(valkey_url: str, mode: str) -> None:
    stream, effects = Streams(mode).signals, Effects()
    async with replies_cut(valkey_url) as (url, cut), publishing(url) as publisher:
        put(publisher, stream, 0, 5)
        await publisher.flushed()
        cut.set()
        put(publisher, stream, 5, 5)
        await eventually(lambda: publisher.connects == 2)
        await publisher.flushed()
        async with running(StreamConsumer(valkey_url, [stream], "g", "one").run, effects.consume):
            await eventually(lambda: len(effects.seen) >= 10)
        async with open_redis(valkey_url) as redis:
            assert await redis.xlen(stream.name) == 15
    assert effects.seen == numbers(10)


@asynccontextmanager
async def replies_cut(url: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A proxy that, once told, lets requests through and drops their replies and then the connection; healthy again after that."""
    host, port = url.rpartition("@")[2].partition("/")[0].split(":")
    cut = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if replies and cut.is_set():
                    cut.clear()
                    break
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
        writers.extend((writer, upstream_writer))
        await asyncio.gather(pass_on(reader, upstream_writer, replies=False), pass_on(upstream_reader, writer, replies=True))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    local = server.sockets[0].getsockname()[1]
    try:
        yield url.replace(f"{host}:{port}", f"127.0.0.1:{local}"), cut
    finally:
        server.close()
        for writer in writers:
            writer.close()


async def test_flushall_while_running_is_survived(own_valkey: Valkey, mode: str) -> None:
    server, stream = own_valkey(), Streams(mode).signals
    effects, tail = Effects(), Effects()
    async with (
        publishing(server.url) as publisher,
        running(StreamConsumer(server.url, [stream], "g", "one").run, effects.consume),
        running(TailReader(server.url, [stream], "0").run, tail.tail),
        open_redis(server.url) as redis,
    ):
        for part in range(4):
            put(publisher, stream, part * 10, 10)
            await eventually(lambda wanted=(part + 1) * 10: len(effects.seen) == len(tail.seen) == wanted)
            await redis.flushall()
    assert effects.seen == tail.seen == numbers(40)


async def test_a_full_server_holds_lossless_back_in_order_and_recovers(own_valkey: Valkey, mode: str) -> None:
    server, streams = own_valkey(), Streams(mode)
    effects = Effects()
    limits = BusLimits(lossless_entries=200)
    async with open_redis(server.url) as redis, publishing(server.url, limits) as publisher:
        await redis.config_set("maxmemory", "1mb")
        put(publisher, streams.signals, 0, 100)
        await eventually(lambda: "OOM" in publisher.trouble)
        assert not publisher.connected
        with pytest.raises(BufferFull, match="OOM"):
            put(publisher, streams.signals, 100, 2000)
        taken = publisher._lanes[streams.signals.name].sequence
        resent = publisher._lossless.resent
        for _ in range(200):
            await redis.ping()
        assert publisher._lossless.resent - resent < 20 * limits.lossless_entries, "a refusing server is hammered"
        room = asyncio.create_task(publisher.room())
        await redis.config_set("maxmemory", "100mb")
        await asyncio.wait_for(room, 5)
        await publisher.flushed()
        assert publisher.connected
        async with running(StreamConsumer(server.url, [streams.signals], "g", "one").run, effects.consume):
            await eventually(lambda: len(effects.seen) >= taken)
    assert effects.seen == numbers(taken)
    assert not effects.gaps


async def test_a_replica_takes_nothing_until_it_is_primary_again(own_valkey: Valkey, mode: str) -> None:
    server, stream = own_valkey(), Streams(mode).signals
    async with open_redis(server.url) as redis, publishing(server.url) as publisher:
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        put(publisher, stream, 0, 3)
        await eventually(lambda: "READONLY" in publisher.trouble)
        await redis.execute_command("REPLICAOF", "NO", "ONE")
        await publisher.flushed()
        assert await redis.xlen(stream.name) == 3


async def test_a_key_of_another_type_is_said_and_stops_no_other_stream(valkey_url: str, mode: str) -> None:
    streams = Streams(mode)
    async with open_redis(valkey_url) as redis, publishing(valkey_url) as publisher:
        await redis.set(streams.signals.name, "not a stream")
        put(publisher, streams.signals, 0, 3)
        put(publisher, streams.alerts, 0, 3)
        await eventually(lambda: "WRONGTYPE" in publisher.trouble)
        await eventually(lambda: redis.xlen(streams.alerts.name))
        await redis.delete(streams.signals.name)
        await publisher.flushed()
        assert await redis.xlen(streams.signals.name) == 3


async def test_a_wrong_password_is_said_at_once_and_not_retried(valkey_url: str, mode: str) -> None:
    wrong = valkey_url.partition("://")[0] + "://:wrong@" + valkey_url.rpartition("@")[2]
    stream = Streams(mode).signals
    for attempt in (
        StreamPublisher(wrong, "p").start(),
        TailReader(wrong, [stream]).run(lambda *_: None, asyncio.Event()),
        StreamConsumer(wrong, [stream], "g", "one").run(Effects().consume, asyncio.Event()),
    ):
        with pytest.raises(AuthRefused, match="bus.url"):
            await asyncio.wait_for(attempt, 5)


async def test_a_server_that_comes_later_is_waited_for(own_valkey: Valkey, mode: str) -> None:
    server, stream, effects = own_valkey(), Streams(mode).signals, Effects()
    server.kill()
    async with (
        publishing(server.url) as publisher,
        running(StreamConsumer(server.url, [stream], "g", "one").run, effects.consume),
    ):
        put(publisher, stream, 0, 10)
        assert not publisher.connected
        await asyncio.to_thread(server.start)
        await eventually(lambda: effects.seen == numbers(10))


async def test_market_data_is_dropped_with_a_gap_while_the_server_is_away(own_valkey: Valkey, mode: str) -> None:
    server, effects = own_valkey(), Effects()
    stream = Streams(mode).market("binance", "tickers")
    async with publishing(server.url, BusLimits(market_entries=300)) as publisher:
        put(publisher, stream, 0, 10)
        await publisher.flushed()
        async with running(TailReader(server.url, [stream], "0").run, effects.tail):
            await eventually(lambda: len(effects.seen) == 10)
            server.kill()
            await eventually(lambda: not publisher.connected)
            put(publisher, stream, 10, 2000)
            await asyncio.sleep(0)
            await asyncio.to_thread(server.start)
            await publisher.flushed()
            await eventually(lambda: effects.seen[-1] == "2009")
        assert publisher.dropped == effects.missed == 2010 - len(effects.seen)
        assert len(effects.gaps) == 1
        assert 290 <= len(effects.seen) - 10 <= 300


async def test_a_command_to_a_dead_server_fails_and_does_not_hang(own_valkey: Valkey) -> None:
    server = own_valkey()
    connection = await Connection.open(server.url)
    answer = connection.command("BLPOP", "nothing", 0, timeout_s=60)
    server.kill()
    with pytest.raises(BusUnavailable):
        await asyncio.wait_for(answer, 5)
    with pytest.raises(BusUnavailable):
        connection.command("PING")
    with suppress(BusUnavailable):
        await Connection.open(server.url)
        pytest.fail("connected to a dead server")
