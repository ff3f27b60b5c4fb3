"""A consumer group on a real server: crashes, lost groups, trimmed and deleted entries, dead neighbours."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bus.client import open_redis
from bus.consumer import StreamConsumer
from bus.dead_letters import list_letters
from bus.interfaces import Delivery, Retry
from bus.lanes import FIELD
from bus.streams import Stream, Streams
from tests.integration.test_bus_faults import Effects, numbers, publishing, put, running
from tests.support.waiting import eventually


async def hold(url: str, stream: Stream, name: str) -> None:
    """A consumer that takes what is there and dies with it in hand."""
    reached = asyncio.Event()

    async def hang(_: Sequence[Delivery]) -> None:
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(StreamConsumer(url, [stream], "g", name).run(hang, asyncio.Event()))
    await asyncio.wait_for(reached.wait(), 5)
    task.cancel()
    await asyncio.wait({task})


async def test_a_group_that_disappears_goes_on_where_it_was(valkey_url: str, mode: str) -> None:
    stream, effects = Streams(mode).signals, Effects()
    async with (
        publishing(valkey_url) as publisher,
        open_redis(valkey_url) as redis,
        running(StreamConsumer(valkey_url, [stream], "g", "one", block_ms=100).run, effects.consume),
    ):
        for part in range(3):
            put(publisher, stream, part * 10, 10)
            await eventually(lambda wanted=(part + 1) * 10: len(effects.seen) == wanted)
            await redis.xgroup_destroy(stream.name, "g")
        put(publisher, stream, 30, 10)
        await eventually(lambda: len(effects.seen) >= 40)
    assert effects.seen == numbers(40)


async def test_a_deleted_pending_entry_is_told_and_stops_nothing(valkey_url: str, mode: str) -> None:
    stream, effects = Streams(mode).signals, Effects()
    async with publishing(valkey_url) as publisher, open_redis(valkey_url) as redis:
        put(publisher, stream, 0, 5)
        await publisher.flushed()
        await hold(valkey_url, stream, "one")
        entry_id = (await redis.xrange(stream.name))[2][0]
        await redis.xdel(stream.name, entry_id)
        async with running(StreamConsumer(valkey_url, [stream], "g", "one").run, effects.consume):
            await eventually(lambda: len(effects.seen) == 4)
        assert effects.seen == ["0", "1", "3", "4"]
        assert effects.gaps[0].first_missing == entry_id.decode()
        assert (await redis.xpending(stream.name, "g"))["pending"] == 0


async def test_a_message_that_ends_the_process_each_time_is_parked(valkey_url: str, mode: str) -> None:
    streams, effects = Streams(mode), Effects()
    async with publishing(valkey_url) as publisher, open_redis(valkey_url) as redis:
        put(publisher, streams.signals, 0, 2)
        await publisher.flushed()
        for _ in range(4):  # once in its first batch, then three times alone
            await hold(valkey_url, streams.signals, "one")
        async with running(StreamConsumer(valkey_url, [streams.signals], "g", "one").run, effects.consume):
            await eventually(lambda: effects.seen == ["1"])
        [letter] = await list_letters(redis, streams.dead_letters)
        assert "ended the process" in letter.error
        assert b'"0"' in letter.payload


async def test_being_killed_while_the_handler_says_not_now_parks_nothing(valkey_url: str, mode: str) -> None:
    streams, effects = Streams(mode), Effects()

    async def not_now(_: Sequence[Delivery]) -> None:
        raise Retry("the database is away")

    async with publishing(valkey_url) as publisher, open_redis(valkey_url) as redis:
        put(publisher, streams.signals, 0, 2)
        await publisher.flushed()
        for _ in range(5):
            consumer = StreamConsumer(valkey_url, [streams.signals], "g", "one")
            task = asyncio.create_task(consumer.run(not_now, asyncio.Event()))
            await eventually(lambda consumer=consumer: consumer.work and consumer.work.retries)
            await asyncio.sleep(0.01)  # into the wait that follows, which is when a killed process dies most likely
            task.cancel()
            await asyncio.wait({task})
        async with running(StreamConsumer(valkey_url, [streams.signals], "g", "one").run, effects.consume):
            await eventually(lambda: len(effects.seen) == 2)
        assert await redis.xlen(streams.dead_letters.name) == 0
    assert effects.seen == ["0", "1"]


async def test_entries_of_a_dead_neighbour_are_taken_over(valkey_url: str, mode: str) -> None:
    stream, effects = Streams(mode).signals, Effects()
    async with publishing(valkey_url) as publisher, open_redis(valkey_url) as redis:
        put(publisher, stream, 0, 300)
        await publisher.flushed()
        await hold(valkey_url, stream, "dead")
        consumer = StreamConsumer(valkey_url, [stream], "g", "alive", claim_idle_ms=50, block_ms=50)
        async with running(consumer.run, effects.consume):
            await eventually(lambda: len(effects.seen) == 300)
        assert (await redis.xpending(stream.name, "g"))["pending"] == 0
    assert sorted(effects.seen, key=int) == numbers(300)


async def test_trimming_that_overtakes_a_group_is_told_once_with_its_count(valkey_url: str, mode: str) -> None:
    stream, effects = Streams(mode).signals, Effects()
    async with publishing(valkey_url) as publisher, open_redis(valkey_url) as redis:
        put(publisher, stream, 0, 110)
        await publisher.flushed()
        async with running(StreamConsumer(valkey_url, [stream], "g", "one").run, effects.consume):
            await eventually(lambda: len(effects.seen) == 110)
        put(publisher, stream, 110, 890)
        await publisher.flushed()
        await redis.xtrim(stream.name, maxlen=100, approximate=False)
        for start in range(2):  # the second start must not tell it again
            put(publisher, stream, 1000 + start, 1)
            async with running(StreamConsumer(valkey_url, [stream], "g", "one").run, effects.consume):
                await eventually(lambda wanted=211 + start: len(effects.seen) == wanted)
        assert [gap.count for gap in effects.gaps] == [790]
    assert effects.seen == [*numbers(110), *[str(number) for number in range(900, 1002)]]


async def test_trimming_in_front_of_a_running_consumer_is_told_where_it_happened(valkey_url: str, mode: str) -> None:
    stream, effects = Streams(mode).signals, Effects()
    go_on = asyncio.Event()

    async def slow(deliveries: Sequence[Delivery]) -> None:
        await effects.consume(deliveries)
        await go_on.wait()

    async with publishing(valkey_url) as publisher, open_redis(valkey_url) as redis:
        put(publisher, stream, 0, 10)
        await publisher.flushed()
        async with running(StreamConsumer(valkey_url, [stream], "g", "one").run, slow):
            await eventually(lambda: len(effects.seen) == 10)
            put(publisher, stream, 10, 490)
            await publisher.flushed()
            await redis.xtrim(stream.name, maxlen=100, approximate=False)
            go_on.set()
            await eventually(lambda: len(effects.seen) == 110)
        assert [gap.count for gap in effects.gaps] == [390]
        async with running(StreamConsumer(valkey_url, [stream], "g", "one", block_ms=50).run, effects.consume):
            put(publisher, stream, 500, 1)
            await eventually(lambda: effects.seen[-1] == "500")
        assert [gap.count for gap in effects.gaps] == [390]


async def test_a_group_created_on_a_trimmed_stream_has_lost_nothing(valkey_url: str, mode: str) -> None:
    stream, effects = Streams(mode).signals, Effects()
    async with publishing(valkey_url) as publisher, open_redis(valkey_url) as redis:
        put(publisher, stream, 0, 100)
        await publisher.flushed()
        await redis.xtrim(stream.name, maxlen=10, approximate=False)
        for _ in range(2):
            async with running(StreamConsumer(valkey_url, [stream], "g", "one").run, effects.consume):
                await eventually(lambda: len(effects.seen) == 10)
    assert not effects.gaps


async def test_fifty_poison_entries_stop_nothing(valkey_url: str, mode: str) -> None:
    streams, effects = Streams(mode), Effects()
    async with publishing(valkey_url) as publisher, open_redis(valkey_url) as redis:
        for number in range(50):
            await redis.xadd(streams.signals.name, {FIELD: b'{"kind":"signal","x":' + b"[" * number})
            put(publisher, streams.signals, number, 1)
            await publisher.flushed()
        await redis.xadd(streams.signals.name, {"a": "b", "c": "d"})
        async with running(StreamConsumer(valkey_url, [streams.signals], "g", "one").run, effects.consume):
            await eventually(lambda: len(effects.seen) == 50)
            await eventually(lambda: redis.xlen(streams.dead_letters.name), what="dead letters")
        assert await redis.xlen(streams.dead_letters.name) == 51
        assert (await redis.xpending(streams.signals.name, "g"))["pending"] == 0
    assert effects.seen == numbers(50)


async def test_restarts_leave_one_consumer_behind(valkey_url: str, mode: str) -> None:
    stream, effects = Streams(mode).signals, Effects()
    async with publishing(valkey_url) as publisher, open_redis(valkey_url) as redis:
        for number in range(30):
            put(publisher, stream, number, 1)
            async with running(StreamConsumer(valkey_url, [stream], "g", "one").run, effects.consume):
                await eventually(lambda wanted=number + 1: len(effects.seen) == wanted)
        assert len(await redis.xinfo_consumers(stream.name, "g")) == 1
        assert (await redis.xpending(stream.name, "g"))["pending"] == 0
    assert effects.seen == numbers(30)
