"""Looking after the bus: trimming, lag, dead letters and what is demanded of a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio import Redis

from bus.client import open_redis
from bus.consumer import StreamConsumer
from bus.dead_letters import NoSuchLetter, drop_letter, list_letters, replay_letter, show_letter
from bus.errors import BusUnavailable
from bus.janitor import Janitor, Rule
from bus.lag import measure, measure_stream
from bus.lanes import FIELD
from bus.server_checks import check_server
from bus.streams import Stream, Streams
from tests.integration.test_bus_faults import Effects, Valkey, numbers, publishing, put, running
from tests.support.servers import ServerProcess
from tests.support.waiting import eventually


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[Redis]:
    async with open_redis(valkey_url) as redis:
        yield redis


async def fill(url: str, stream: Stream, count: int) -> None:
    async with publishing(url) as publisher:
        put(publisher, stream, 0, count)
        await publisher.flushed()


async def consume(url: str, stream: Stream, group: str, count: int) -> Effects:
    """A group that reads `count` entries and stops."""
    effects = Effects()
    async with running(StreamConsumer(url, [stream], group, "one", batch=10).run, effects.consume):
        await eventually(lambda: len(effects.seen) >= count)
    return effects


def rule(stream: Stream, max_bytes: int = 20_000, required: tuple[str, ...] = ("recorder",)) -> Rule:
    return Rule(stream, frozenset(required), max_bytes)


async def test_a_lossless_stream_is_trimmed_only_behind_its_slowest_required_group(
    valkey_url: str, redis: Redis, mode: str
) -> None:
    stream = Streams(mode).signals
    janitor = Janitor(redis, [rule(stream, required=("recorder", "bot"))])
    await fill(valkey_url, stream, 2000)

    report = await janitor.sweep()
    assert report.trimmed == {}  # the groups have not even come
    assert stream.name in report.over_bound

    await consume(valkey_url, stream, "recorder", 2000)
    await redis.xgroup_create(stream.name, "bot", "0")
    report = await janitor.sweep()
    assert report.trimmed == {}
    assert await redis.xlen(stream.name) == 2000

    assert (await consume(valkey_url, stream, "bot", 2000)).seen == numbers(2000)
    report = await janitor.sweep()
    assert report.trimmed[stream.name] > 0
    assert report.cut_off == []
    size = await redis.memory_usage(stream.name)
    assert size is not None
    assert size <= 20_000


async def test_a_pending_entry_holds_the_janitor_back(valkey_url: str, redis: Redis, mode: str) -> None:
    stream = Streams(mode).signals
    await fill(valkey_url, stream, 2000)
    await redis.xgroup_create(stream.name, "recorder", "0")
    [[_, entries]] = await redis.xreadgroup("recorder", "one", {stream.name: ">"}, count=2000)
    ids = [entry_id for entry_id, _ in entries]
    await redis.xack(stream.name, "recorder", *[entry_id for number, entry_id in enumerate(ids) if number != 700])
    report = await Janitor(redis, [rule(stream, max_bytes=1000)]).sweep()
    left = [entry_id for entry_id, _ in await redis.xrange(stream.name)]
    assert left[-1300:] == ids[700:]
    assert 600 <= report.trimmed[stream.name] <= 700
    assert stream.name in report.over_bound


async def test_a_small_stream_keeps_its_history(valkey_url: str, redis: Redis, mode: str) -> None:
    stream = Streams(mode).signals
    await fill(valkey_url, stream, 50)
    await consume(valkey_url, stream, "recorder", 50)
    report = await Janitor(redis, [rule(stream, max_bytes=1_000_000)]).sweep()
    assert (report.trimmed, report.over_bound) == ({}, {})
    assert await redis.xlen(stream.name) == 50


async def test_an_optional_group_past_the_bound_is_cut_off_and_told(valkey_url: str, redis: Redis, mode: str) -> None:
    stream = Streams(mode).signals
    await fill(valkey_url, stream, 2000)
    await redis.xgroup_create(stream.name, "dashboard", "0", entries_read=0)
    await consume(valkey_url, stream, "recorder", 2000)
    report = await Janitor(redis, [rule(stream)]).sweep()
    [cut] = report.cut_off
    assert (cut.stream, cut.group, cut.required) == (stream.name, "dashboard", False)
    left = await redis.xlen(stream.name)
    assert left > 20
    effects = await consume(valkey_url, stream, "dashboard", left)
    assert effects.missed + len(effects.seen) == 2000


async def test_trades_beyond_their_bound_go_even_unread(valkey_url: str, redis: Redis, mode: str) -> None:
    stream = Streams(mode).market("binance", "trades")
    await fill(valkey_url, stream, 2000)
    await redis.xgroup_create(stream.name, "recorder", "0")
    report = await Janitor(redis, [rule(stream)]).sweep()
    [cut] = report.cut_off
    assert (cut.group, cut.required) == ("recorder", True)
    size = await redis.memory_usage(stream.name)
    assert size is not None
    assert size <= 20_000


async def test_empty_idle_consumers_are_removed_and_others_kept(valkey_url: str, redis: Redis, mode: str) -> None:
    stream = Streams(mode).signals
    await fill(valkey_url, stream, 10)
    await redis.xgroup_create(stream.name, "recorder", "0")
    await redis.xreadgroup("recorder", "holds", {stream.name: ">"}, count=5)
    for number in range(20):
        await redis.xgroup_createconsumer(stream.name, "recorder", f"gone-{number}")
    report = await Janitor(redis, [rule(stream)], consumer_idle_s=-1).sweep()
    assert len(report.removed_consumers) == 20
    assert [row["name"] for row in await redis.xinfo_consumers(stream.name, "recorder")] == [b"holds"]


async def test_the_janitor_sweeps_until_it_is_stopped_and_outlives_its_server(own_valkey: Valkey, mode: str) -> None:
    server, stream, stop = own_valkey(), Streams(mode).signals, asyncio.Event()
    async with open_redis(server.url, timeout_s=0.5) as redis:
        janitor = Janitor(redis, [rule(stream)], every_s=0.02)
        task = asyncio.create_task(janitor.run(stop))
        await asyncio.to_thread(server.kill)
        await eventually(lambda: janitor.errors > 0)
        await asyncio.to_thread(server.start)
        await fill(server.url, stream, 2000)
        await consume(server.url, stream, "recorder", 2000)
        await eventually(lambda: janitor.trimmed > 0)
        stop.set()
        await asyncio.wait_for(task, 5)


async def test_lag_counts_what_is_unread_and_what_is_in_hand(valkey_url: str, redis: Redis, mode: str) -> None:
    streams = Streams(mode)
    await fill(valkey_url, streams.signals, 100)
    await redis.xgroup_create(streams.signals.name, "recorder", "0")
    await redis.xreadgroup("recorder", "one", {streams.signals.name: ">"}, count=30)
    [lag] = await measure(redis, streams.shared)
    [group] = lag.groups
    assert (lag.name, lag.length) == (streams.signals.name, 100)
    assert (group.name, group.lag, group.pending, group.consumers) == ("recorder", 70, 30, 1)
    assert group.first_needed == lag.first_id
    assert lag.bytes > 1000
    assert await measure_stream(redis, streams.control.name) is None


async def test_dead_letters_are_listed_shown_replayed_and_dropped(valkey_url: str, redis: Redis, mode: str) -> None:
    streams, effects = Streams(mode), Effects()
    broken = True

    async def handle(deliveries: object) -> None:
        if broken:
            raise ValueError("no such table")
        await effects.consume(deliveries)  # type: ignore[arg-type]

    await fill(valkey_url, streams.signals, 2)
    async with running(StreamConsumer(valkey_url, [streams.signals], "g", "one").run, handle):
        await eventually(lambda: redis.xlen(streams.dead_letters.name))
        await eventually(lambda: _has(redis, streams.dead_letters.name, 2))
        first, second = await list_letters(redis, streams.dead_letters)
        assert (first.stream, first.group, first.error) == (streams.signals.name, "g", "ValueError: no such table")
        assert first.parked_ns > 0
        assert await list_letters(redis, streams.dead_letters, after=first.letter_id) == [second]
        assert await show_letter(redis, streams.dead_letters, second.letter_id) == second
        broken = False
        await drop_letter(redis, streams.dead_letters, second.letter_id)
        with pytest.raises(NoSuchLetter):
            await drop_letter(redis, streams.dead_letters, second.letter_id)
    [[_, fields]] = await redis.xrange(streams.signals.name, min=first.entry_id, max=first.entry_id)
    assert fields == {FIELD.encode(): first.payload}
    await replay_letter(redis, streams.dead_letters, first.letter_id)
    assert await list_letters(redis, streams.dead_letters) == []
    async with running(StreamConsumer(valkey_url, [streams.signals], "g", "one").run, handle):
        await eventually(lambda: effects.seen == ["0"])
    with pytest.raises(NoSuchLetter):
        await replay_letter(redis, streams.dead_letters, first.letter_id)


async def _has(redis: Redis, name: str, count: int) -> bool:
    return bool(await redis.xlen(name) == count)


async def test_the_bundled_server_has_no_fatal_problem(valkey_url: str) -> None:
    assert [problem for problem in await check_server(valkey_url, "live") if problem.fatal] == []


async def test_a_server_that_forgets_or_evicts_is_refused_in_live_mode_only(own_valkey: Callable[[], ServerProcess]) -> None:
    server = own_valkey()
    async with open_redis(server.url) as redis:
        await redis.config_set("appendonly", "no")
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        await redis.config_set("maxmemory", "0")
    live = {problem.code: problem.fatal for problem in await check_server(server.url, "live")}
    assert live == {"BUS_NO_AOF": True, "BUS_EVICTS": True, "BUS_NO_MEMORY_BOUND": False}
    assert not any(problem.fatal for problem in await check_server(server.url, "simulation"))
    server.kill()
    with pytest.raises(BusUnavailable):
        await check_server(server.url, "live")


async def test_a_user_who_may_not_read_the_configuration_is_judged_by_info(own_valkey: Callable[[], ServerProcess]) -> None:
    server = own_valkey()
    async with open_redis(server.url) as redis:
        await redis.config_set("appendonly", "no")
        await redis.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-config")
    url = f"redis://app:pw@{server.url.rpartition('@')[2]}"
    assert "BUS_NO_AOF" in {problem.code for problem in await check_server(url, "live")}
