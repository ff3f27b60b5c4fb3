"""A tail reader on a real server: where it starts, where it goes on, what it learns to have missed."""

from __future__ import annotations

import asyncio

from bus.client import open_redis
from bus.reader import TailReader
from bus.streams import Streams
from common_models import AnyMessage
from tests.integration.test_bus_faults import Effects, numbers, publishing, put, running
from tests.support.waiting import eventually


async def test_trimming_that_overtakes_a_reader_is_told_with_its_exact_range(valkey_url: str, mode: str) -> None:
    stream, effects = Streams(mode).signals, Effects()
    reader = TailReader(valkey_url, [stream], "0")
    async with publishing(valkey_url) as publisher, open_redis(valkey_url) as redis:
        put(publisher, stream, 0, 10)
        async with running(reader.run, effects.tail):
            await eventually(lambda: len(effects.seen) == 10)
        put(publisher, stream, 10, 990)
        await publisher.flushed()
        await redis.xtrim(stream.name, maxlen=100, approximate=False)
        async with running(reader.run, effects.tail):
            await eventually(lambda: len(effects.seen) == 110)
        prefix = f"p.signals:{publisher.epoch}:"
    [gap] = effects.gaps
    assert (gap.first_missing, gap.last_missing, gap.count) == (f"{prefix}11", f"{prefix}900", 890)
    assert 0 < gap.from_ns <= gap.to_ns
    assert reader.missed == 890


async def test_a_reader_goes_on_from_positions_that_were_kept(valkey_url: str, mode: str) -> None:
    streams, effects = Streams(mode), Effects()
    chosen = [streams.signals, streams.alerts]
    async with publishing(valkey_url) as publisher:
        put(publisher, streams.signals, 0, 10)
        first = TailReader(valkey_url, chosen, "0")
        async with running(first.run, effects.tail):
            await eventually(lambda: len(effects.seen) == 10)
        put(publisher, streams.signals, 10, 10)
        async with running(TailReader(valkey_url, chosen, first.positions).run, effects.tail):
            await eventually(lambda: len(effects.seen) == 20)
    assert effects.seen == numbers(20)


async def test_nothing_is_missed_between_a_start_at_the_end_and_the_first_message(valkey_url: str, mode: str) -> None:
    """A reconnect before anything was read must not skip what came meanwhile."""
    stream, effects = Streams(mode).signals, Effects()
    async with publishing(valkey_url) as publisher, open_redis(valkey_url) as redis:
        put(publisher, stream, 0, 5)
        await publisher.flushed()
        reader = TailReader(valkey_url, [stream], "$", name=f"{mode}-reader")
        async with running(reader.run, effects.tail):
            await eventually(lambda: reader.positions[stream.name] != "$")
            clients = await redis.client_list()
            [client] = [client for client in clients if client["name"] == f"{mode}-reader"]
            await redis.client_kill_filter(_id=client["id"])
            put(publisher, stream, 5, 5)
            await eventually(lambda: len(effects.seen) == 5)
    assert effects.seen == ["5", "6", "7", "8", "9"]
    assert reader.connects == 2


async def test_a_message_arrives_without_a_task_in_between(valkey_url: str, mode: str) -> None:
    """The handler runs in the socket's callback: no task of ours is current while it does."""
    stream = Streams(mode).signals
    current: list[object] = []

    def handle(_: str, __: AnyMessage) -> None:
        current.append(asyncio.current_task())

    async with publishing(valkey_url) as publisher, running(TailReader(valkey_url, [stream], "0").run, handle):
        put(publisher, stream, 0, 1)
        await eventually(lambda: current)
    assert current == [None]


async def test_many_streams_share_a_connection(valkey_url: str, mode: str) -> None:
    streams, effects = Streams(mode), Effects()
    chosen = streams.all_of("binance", "main")
    async with publishing(valkey_url) as publisher, running(TailReader(valkey_url, chosen, "0").run, effects.tail):
        for number, stream in enumerate(chosen):
            put(publisher, stream, number, 1)
        await eventually(lambda: len(effects.seen) == len(chosen))
    assert sorted(effects.seen, key=int) == numbers(len(chosen))
