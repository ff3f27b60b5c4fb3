"""The promises of publisher, reader and consumer, kept by the real bus and by the one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bus.client import open_redis
from bus.consumer import StreamConsumer
from bus.dead_letters import list_letters
from bus.interfaces import BatchHandler, Consumer, Delivery, Publisher, Reader, Retry, Unacceptable
from bus.lanes import FIELD
from bus.memory import MemoryBus, MemoryConsumer, MemoryPublisher, MemoryReader
from bus.publisher import StreamPublisher
from bus.reader import TailReader
from bus.streams import Stream, Streams
from common_models import AnyMessage, Gap, Signal
from tests.support.waiting import eventually
from tests.unit.bus.messages import signal, ticker


class Bus:
    """One of the two kinds of bus, by what makes its parts."""

    def __init__(self, url: str = "") -> None:
        self.url = url
        self.memory = MemoryBus()

    def publisher(self, producer: str = "p", epoch: str = "1") -> Publisher:
        return StreamPublisher(self.url, producer, epoch) if self.url else MemoryPublisher(self.memory, producer, epoch)

    def reader(self, streams: Sequence[Stream], start: str = "$") -> Reader:
        return TailReader(self.url, streams, start) if self.url else MemoryReader(self.memory, streams, start)

    def consumer(self, streams: Sequence[Stream], start: str = "0", batch: int = 256) -> Consumer:
        if self.url:
            return StreamConsumer(self.url, streams, "group", "one", batch, start)
        return MemoryConsumer(self.memory, streams, "group", batch, start)

    async def add_raw(self, stream: Stream, body: bytes) -> None:
        if self.url:
            async with open_redis(self.url) as redis:
                await redis.xadd(stream.name, {FIELD: body})
        else:
            self.memory.add(stream, body)

    async def letters(self, streams: Streams) -> list[tuple[str, bytes]]:
        if not self.url:
            return [(letter.error, letter.payload) for letter in self.memory.letters]
        async with open_redis(self.url) as redis:
            return [(letter.error, letter.payload) for letter in await list_letters(redis, streams.dead_letters)]


@pytest.fixture(params=["redis", "memory"])
def bus(request: pytest.FixtureRequest) -> Bus:
    return Bus(request.getfixturevalue("valkey_url") if request.param == "redis" else "")


@pytest.fixture
def streams(mode: str) -> Streams:
    return Streams(mode)


@pytest.fixture
async def publisher(bus: Bus) -> AsyncIterator[Publisher]:
    publisher = bus.publisher()
    await publisher.start()
    yield publisher
    await publisher.close()


@asynccontextmanager
async def running(run: Callable[[Any, asyncio.Event], Any], handle: Any) -> AsyncIterator[None]:
    """A reader or consumer at work, stopped in order at the end."""
    stop = asyncio.Event()
    task = asyncio.create_task(run(handle, stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 5)


def collecting(into: list[str]) -> BatchHandler:
    async def handle(deliveries: Sequence[Delivery]) -> None:
        into.extend(text(delivery.message) for delivery in deliveries)

    return handle


def text(message: AnyMessage) -> str:
    if isinstance(message, Signal):
        return message.reason
    return f"gap {message.count}" if isinstance(message, Gap) else type(message).__name__


def reasons(count: int, first: int = 0) -> list[str]:
    return [str(number) for number in range(first, first + count)]


def put_all(publisher: Publisher, stream: Stream, names: Sequence[str]) -> None:
    publisher.put_many(stream, [signal(name) for name in names])


async def test_messages_are_stamped_and_numbered_by_stream(publisher: Publisher, streams: Streams) -> None:
    first, second = signal("a"), signal("b")
    ids = [publisher.put(streams.signals, first), publisher.put(streams.signals, second)]
    other = publisher.put(streams.market("binance", "tickers"), ticker())
    assert ids == ["p.signals:1:1", "p.signals:1:2"]
    assert other == "p.binance.tickers:1:1"
    assert (first.message_id, second.message_id) == tuple(ids)
    assert first.ts_pub_ns > 0


async def test_a_reader_sees_all_that_is_there_and_what_follows_in_order(bus: Bus, publisher: Publisher, streams: Streams) -> None:
    seen: list[str] = []
    put_all(publisher, streams.signals, reasons(1000))
    await publisher.flushed()
    async with running(bus.reader([streams.signals], "0").run, lambda _, message: seen.append(text(message))):
        await eventually(lambda: len(seen) == 1000)
        put_all(publisher, streams.signals, reasons(1000, 1000))
        await eventually(lambda: len(seen) == 2000)
    assert seen == reasons(2000)


async def test_a_reader_may_start_with_what_comes(bus: Bus, publisher: Publisher, streams: Streams) -> None:
    seen: list[str] = []
    put_all(publisher, streams.signals, ["old"])
    await publisher.flushed()
    reader = bus.reader([streams.signals, streams.alerts], "$")
    async with running(reader.run, lambda _, message: seen.append(text(message))):
        if isinstance(reader, TailReader):
            await eventually(lambda: reader.positions[streams.signals.name] != "$")
        put_all(publisher, streams.signals, ["new"])
        await eventually(lambda: seen == ["new"])


async def test_every_reader_sees_everything(bus: Bus, publisher: Publisher, streams: Streams) -> None:
    left: list[str] = []
    right: list[str] = []
    async with (
        running(bus.reader([streams.signals], "0").run, lambda _, message: left.append(text(message))),
        running(bus.reader([streams.signals], "0").run, lambda _, message: right.append(text(message))),
    ):
        put_all(publisher, streams.signals, reasons(10))
        await eventually(lambda: left == right == reasons(10))


async def test_a_reader_is_told_of_unreadable_entries_and_goes_on(bus: Bus, publisher: Publisher, streams: Streams) -> None:
    seen: list[str] = []
    put_all(publisher, streams.signals, ["a"])
    await publisher.flushed()
    await bus.add_raw(streams.signals, b"\xff not json")
    put_all(publisher, streams.signals, ["b"])
    async with running(bus.reader([streams.signals], "0").run, lambda _, message: seen.append(text(message))):
        await eventually(lambda: seen == ["a", "gap 1", "b"])


async def test_a_reader_outlives_its_handler(bus: Bus, publisher: Publisher, streams: Streams) -> None:
    seen: list[str] = []

    def handle(_: str, message: AnyMessage) -> None:
        if text(message) == "1":
            raise ValueError("broken handler")
        seen.append(text(message))

    async with running(bus.reader([streams.signals], "0").run, handle):
        put_all(publisher, streams.signals, reasons(3))
        await eventually(lambda: seen == ["0", "2"])


async def test_a_second_life_of_a_producer_is_no_gap(bus: Bus, streams: Streams) -> None:
    seen: list[str] = []
    for epoch in ("1", "2"):
        publisher = bus.publisher(epoch=epoch)
        await publisher.start()
        put_all(publisher, streams.signals, ["a", "b"])
        assert await publisher.close() == 0
    async with running(bus.reader([streams.signals], "0").run, lambda _, message: seen.append(text(message))):
        await eventually(lambda: seen == ["a", "b", "a", "b"])


async def test_a_consumer_handles_each_message_once_over_restarts(bus: Bus, publisher: Publisher, streams: Streams) -> None:
    seen: list[str] = []
    put_all(publisher, streams.signals, reasons(500))
    async with running(bus.consumer([streams.signals]).run, collecting(seen)):
        await eventually(lambda: len(seen) == 500)
    put_all(publisher, streams.signals, reasons(500, 500))
    async with running(bus.consumer([streams.signals]).run, collecting(seen)):
        await eventually(lambda: len(seen) == 1000)
    assert seen == reasons(1000)


async def test_what_a_dead_consumer_had_in_hand_comes_first(bus: Bus, publisher: Publisher, streams: Streams) -> None:
    reached = asyncio.Event()

    async def hang(_: Sequence[Delivery]) -> None:
        reached.set()
        await asyncio.Event().wait()

    put_all(publisher, streams.signals, reasons(3))
    await publisher.flushed()
    first = asyncio.create_task(bus.consumer([streams.signals]).run(hang, asyncio.Event()))
    await asyncio.wait_for(reached.wait(), 5)
    first.cancel()
    await asyncio.wait({first})
    put_all(publisher, streams.signals, reasons(3, 3))
    seen: list[str] = []
    async with running(bus.consumer([streams.signals]).run, collecting(seen)):
        await eventually(lambda: len(seen) == 6)
    assert seen == reasons(6)


async def test_not_now_is_no_failure(bus: Bus, publisher: Publisher, streams: Streams) -> None:
    seen: list[str] = []
    attempts: list[int] = []

    async def handle(deliveries: Sequence[Delivery]) -> None:
        attempts.extend(delivery.attempts for delivery in deliveries)
        if len(attempts) < 5:
            raise Retry("the database is away")
        seen.extend(text(delivery.message) for delivery in deliveries)

    put_all(publisher, streams.signals, ["a"])
    async with running(bus.consumer([streams.signals]).run, handle):
        await eventually(lambda: seen == ["a"])
    assert set(attempts) == {1}
    assert await bus.letters(streams) == []


async def test_what_a_handler_finds_unacceptable_is_parked_at_once(bus: Bus, publisher: Publisher, streams: Streams) -> None:
    seen: list[str] = []
    tried: list[str] = []

    async def handle(deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if int(text(delivery.message)) % 2:
                if len(deliveries) == 1:
                    tried.append(text(delivery.message))
                raise Unacceptable("odd")
        seen.extend(text(delivery.message) for delivery in deliveries)

    put_all(publisher, streams.signals, reasons(10))
    await publisher.flushed()
    async with running(bus.consumer([streams.signals]).run, handle):
        await eventually(lambda: len(seen) == 5)
        await eventually(lambda: len(tried) == 5)
    assert (seen, tried) == (["0", "2", "4", "6", "8"], ["1", "3", "5", "7", "9"])
    assert [error for error, _ in await bus.letters(streams)] == ["Unacceptable: odd"] * 5


async def test_poison_is_parked_after_three_failures_and_the_rest_is_handled(
    bus: Bus, publisher: Publisher, streams: Streams
) -> None:
    seen: list[str] = []
    tried: list[int] = []

    async def handle(deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if text(delivery.message) == "5":
                if len(deliveries) == 1:
                    tried.append(delivery.attempts)
                raise ValueError("cannot take this one")
        seen.extend(text(delivery.message) for delivery in deliveries)

    put_all(publisher, streams.signals, reasons(10))
    await publisher.flushed()
    await bus.add_raw(streams.signals, b'{"kind":"nonsense"}')
    put_all(publisher, streams.signals, ["10"])
    async with running(bus.consumer([streams.signals]).run, handle):
        await eventually(lambda: len(seen) == 10)
    assert seen == [*reasons(5), *reasons(5, 6)]
    assert tried == [1, 2, 3]
    errors = [error for error, _ in await bus.letters(streams)]
    assert len(errors) == 2
    assert any("unreadable" in error for error in errors)
    assert any("cannot take this one" in error for error in errors)


async def test_copies_of_a_message_are_handled_once(bus: Bus, publisher: Publisher, streams: Streams) -> None:
    seen: list[str] = []
    copy = bus.publisher()  # the same producer and epoch: what a resend after a lost acknowledgement looks like
    await copy.start()
    for one in (publisher, copy):
        put_all(one, streams.signals, reasons(20))
        await one.flushed()
    put_all(publisher, streams.signals, ["20"])
    tail: list[str] = []
    async with (
        running(bus.consumer([streams.signals], batch=7).run, collecting(seen)),
        running(bus.reader([streams.signals], "0").run, lambda _, message: tail.append(text(message))),
    ):
        await eventually(lambda: "20" in seen and "20" in tail)
    assert seen == tail == reasons(21)
    await copy.close()


async def test_a_jump_in_the_sequence_is_told_where_it_happened(bus: Bus, publisher: Publisher, streams: Streams) -> None:
    seen: list[str] = []
    tail: list[str] = []
    put_all(publisher, streams.signals, reasons(2))
    skip(publisher, streams.signals, 2)
    put_all(publisher, streams.signals, reasons(2, 4))
    async with (
        running(bus.consumer([streams.signals]).run, collecting(seen)),
        running(bus.reader([streams.signals], "0").run, lambda _, message: tail.append(text(message))),
    ):
        await eventually(lambda: len(seen) == 5 and len(tail) == 5)
    assert seen == tail == ["0", "1", "gap 2", "4", "5"]


def skip(publisher: Publisher, stream: Stream, count: int) -> None:
    """Use numbers up without a message, as if those had been lost."""
    if isinstance(publisher, StreamPublisher):
        publisher._lanes[stream.name].sequence += count
    elif isinstance(publisher, MemoryPublisher):
        publisher._sequences[stream.name] += count


async def test_several_streams_are_consumed_together(bus: Bus, publisher: Publisher, streams: Streams) -> None:
    chosen = [streams.signals, streams.control, streams.alerts]
    seen: list[str] = []
    async with running(bus.consumer(chosen).run, collecting(seen)):
        for stream in chosen:
            put_all(publisher, stream, reasons(100))
        await eventually(lambda: len(seen) == 300)
    assert sorted(seen) == sorted(reasons(100) * 3)


async def test_entries_of_a_stream_are_bounded_by_length(bus: Bus, publisher: Publisher, mode: str) -> None:
    stream = Streams(mode, market_entries=100).market("binance", "tickers")
    publisher.put_many(stream, [ticker() for _ in range(5000)])
    await publisher.flushed()
    seen: list[str] = []
    async with running(bus.reader([stream], "0").run, lambda _, message: seen.append(text(message))):
        await eventually(lambda: bool(seen))
    assert 100 <= len(seen) <= 400  # redis trims whole nodes of a hundred
