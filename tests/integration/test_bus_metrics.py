"""What readers, publishers and the janitor tell of the bus in numbers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from redis.asyncio import Redis

from bus.client import open_redis
from bus.consumer import StreamConsumer
from bus.interfaces import Unacceptable
from bus.janitor import Janitor, Rule
from bus.reader import TailReader
from bus.streams import Stream, Streams
from runtime.metrics import Metrics
from tests.integration.test_bus_faults import Effects, Valkey, publishing, put, running
from tests.support.exposition import fresh_process, samples, value
from tests.support.waiting import eventually


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    return fresh_process(monkeypatch)


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[Redis]:
    async with open_redis(valkey_url) as redis:
        yield redis


def rule(stream: Stream) -> Rule:
    return Rule(stream, frozenset({"recorder"}), 10_000_000)


async def look(redis: Redis, *streams: Stream) -> Janitor:
    """One sweep of a janitor whose figures are exposed."""
    janitor = Janitor(redis, [rule(stream) for stream in streams])
    janitor.figures.expose()
    await janitor.sweep()
    return janitor


async def test_every_hop_over_the_bus_is_timed_from_the_moment_a_reader_is_there(
    process: Metrics, valkey_url: str, mode: str
) -> None:
    stream, tail, group = Streams(mode).market("binance", "tickers"), Effects(), Effects()
    async with publishing(valkey_url) as publisher:
        put(publisher, stream, 0, 500)  # before anybody reads
        await publisher.flushed()
        reader = TailReader(valkey_url, [stream], "0", name="bot")
        consumer = StreamConsumer(valkey_url, [stream], "recorder", "one")
        async with running(reader.run, tail.tail), running(consumer.run, group.consume):
            await eventually(lambda: len(tail.seen) >= 500 and len(group.seen) >= 500)
            early = {name: value(process, "tradebot_hop_seconds_count", hop=name, exchange="binance") for name in _timed(process)}
            assert early == {}
            put(publisher, stream, 500, 3)
            await eventually(lambda: len(tail.seen) >= 503 and len(group.seen) >= 503)
        for hop in ("bus_to_bot", "bus_to_recorder"):
            assert 1 <= value(process, "tradebot_hop_seconds_count", hop=hop, exchange="binance") <= 3
            assert value(process, "tradebot_hop_seconds_sum", hop=hop, exchange="binance") < 3
        assert value(process, "tradebot_hop_seconds_count", hop="bus_to_ack", exchange="") >= 2
        label = {"producer": publisher.producer, "stream": "binance.tickers"}
        assert value(process, "tradebot_bus_put_messages_total", **label) == 503
        assert value(process, "tradebot_bus_read_messages_total", reader="bot", stream="binance.tickers") == 503


def _timed(process: Metrics) -> set[str]:
    """The readers' hops that were observed at all."""
    pairs = {pair for name, labels in samples(process) if name == "tradebot_hop_seconds_count" for pair in labels}
    return {hop for label, hop in pairs if label == "hop" and hop.startswith("bus_to_") and hop != "bus_to_ack"}


async def test_a_reader_that_comes_back_adds_no_series_and_goes_on_counting(
    process: Metrics, own_valkey: Valkey, mode: str
) -> None:
    server, stream, tail = own_valkey(), Streams(mode).signals, Effects()
    async with publishing(server.url) as publisher, running(TailReader(server.url, [stream], "0", name="bot").run, tail.tail):
        put(publisher, stream, 0, 5)
        await eventually(lambda: len(tail.seen) >= 5)
        before = samples(process)
        server.kill()
        server.start()
        put(publisher, stream, 5, 5)
        await eventually(lambda: len(tail.seen) >= 10, 20)
        after = samples(process)  # a series that is there twice is an error here
    assert after.keys() == before.keys()
    put_total = ("tradebot_bus_put_messages_total", frozenset({("producer", publisher.producer), ("stream", "signals")}))
    assert after[put_total] == 10


async def test_a_groups_lag_is_told_in_entries_and_in_seconds_and_ends_with_it(
    process: Metrics, valkey_url: str, redis: Redis, mode: str
) -> None:
    stream, effects = Streams(mode).signals, Effects()
    lag = partial(value, process, stream="signals", group="recorder")
    async with publishing(valkey_url) as publisher:
        async with running(StreamConsumer(valkey_url, [stream], "recorder", "one").run, effects.consume):
            put(publisher, stream, 0, 2)
            await eventually(lambda: len(effects.seen) >= 2)
        put(publisher, stream, 2, 7)
        await publisher.flushed()
    await asyncio.sleep(0.05)  # so that there is an age to tell
    await look(redis, stream)
    assert lag("tradebot_bus_group_lag_entries") == 7
    assert 0.04 < lag("tradebot_bus_group_lag_seconds") < 10
    assert value(process, "tradebot_bus_stream_added_total", stream="signals") == 9
    assert value(process, "tradebot_bus_stream_bytes", stream="signals") > 100

    async with running(StreamConsumer(valkey_url, [stream], "recorder", "one").run, effects.consume):
        await eventually(lambda: len(effects.seen) >= 9)
    await look(redis, stream)
    assert (lag("tradebot_bus_group_lag_entries"), lag("tradebot_bus_group_lag_seconds")) == (0, 0)


async def test_dead_letters_are_counted_until_there_is_none(process: Metrics, valkey_url: str, redis: Redis, mode: str) -> None:
    streams = Streams(mode)

    async def refuse(_: object) -> None:
        raise Unacceptable("never")

    await look(redis, streams.dead_letters)
    assert value(process, "tradebot_bus_dead_letters") == 0
    async with publishing(valkey_url) as publisher:
        put(publisher, streams.signals, 0, 2)
        await publisher.flushed()
    async with running(StreamConsumer(valkey_url, [streams.signals], "recorder", "one").run, refuse):
        await eventually(partial(_length, redis, streams.dead_letters, 2))
    await look(redis, streams.dead_letters)
    assert value(process, "tradebot_bus_dead_letters") == 2
    assert value(process, "tradebot_bus_parked_messages_total", group="recorder", consumer="one") == 2
    await redis.delete(streams.dead_letters.name)
    await look(redis, streams.dead_letters)
    assert value(process, "tradebot_bus_dead_letters") == 0


async def _length(redis: Redis, stream: Stream, length: int) -> bool:
    return int(await redis.xlen(stream.name)) == length


async def test_a_server_without_persistence_or_one_that_is_away_is_told(process: Metrics, own_valkey: Valkey, mode: str) -> None:
    server, stop = own_valkey(), asyncio.Event()
    async with open_redis(server.url) as redis:
        await redis.config_set("maxmemory", "100mb")
        janitor = Janitor(redis, [rule(Streams(mode).signals)], every_s=0.05)
        janitor.figures.expose()
        task = asyncio.create_task(janitor.run(stop))
        await eventually(lambda: value(process, "tradebot_bus_reachable") == 1)
        assert value(process, "tradebot_bus_append_only") == 1
        assert value(process, "tradebot_bus_memory_limit_bytes") == 100 * 1024 * 1024
        assert 0 < value(process, "tradebot_bus_memory_bytes") < 100 * 1024 * 1024
        await redis.config_set("appendonly", "no")
        await eventually(lambda: value(process, "tradebot_bus_append_only") == 0)
        server.kill()
        await eventually(lambda: value(process, "tradebot_bus_reachable") == 0, 20)
        assert value(process, "tradebot_bus_memory_limit_bytes") == 100 * 1024 * 1024  # the last look stands
        stop.set()
        await task
