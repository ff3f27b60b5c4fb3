"""What somebody still needs of a stream is in a backup, comes back under its ids, and reaches each group exactly from there on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from bus.client import open_redis
from bus.consumer import StreamConsumer
from bus.interfaces import Delivery, Retry
from bus.publisher import StreamPublisher
from bus.streams import Stream, Streams
from tests.support.waiting import eventually
from tests.unit.bus.messages import alert
from tradebot.backup_archive import BackupError
from tradebot.backup_bus import PORTION, clear, dump, dumps_in, load


async def say(url: str, stream: Stream, *texts: str) -> None:
    publisher = StreamPublisher(url, "test")
    await publisher.start()
    publisher.put_many(stream, [alert(text) for text in texts])
    await publisher.close()


async def consume(url: str, stream: Stream, group: str, count: int, stop_at: str = "") -> list[str]:
    """What a group is given until there are `count`, or until `stop_at`, which stays in hand."""
    seen: list[str] = []
    stop = asyncio.Event()

    async def handle(deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            text = str(getattr(delivery.message, "text", f"gap: {getattr(delivery.message, 'reason', '')}"))
            if stop_at and text == stop_at:
                stop.set()
                raise Retry("not now")
            seen.append(text)
            if len(seen) == count:
                stop.set()

    consumer = StreamConsumer(url, [stream], group, group, batch=1, block_ms=50)
    task = asyncio.create_task(consumer.run(handle, stop))
    await eventually(stop.is_set, what=f"{group} has {count}")
    await task
    return seen


async def test_each_group_goes_on_where_it_was_and_what_all_have_is_left_out(valkey_url: str, mode: str, tmp_path: Path) -> None:
    streams = Streams(mode)
    texts = [f"number {number}" for number in range(10)]
    await say(valkey_url, streams.alerts, *texts)
    await say(valkey_url, streams.signals, "everybody has it")
    await say(valkey_url, streams.dead_letters, "for people")
    assert await consume(valkey_url, streams.alerts, "recorder", 8) == texts[:8]
    assert await consume(valkey_url, streams.alerts, "alerts", 99, stop_at="number 5") == texts[:5]
    await consume(valkey_url, streams.signals, "recorder", 1)
    redis = open_redis(valkey_url)
    before: Any = await redis.xrange(streams.alerts.name)

    await dump(redis, streams.shared, tmp_path)
    copies = dumps_in(tmp_path, streams.shared)
    assert copies.keys() == {streams.alerts.name, streams.dead_letters.name}
    with pytest.raises(BackupError, match="--force"):
        await clear(redis, streams.shared, mode, force=False)
    await clear(redis, streams.shared, mode, force=True)
    await load(redis, copies)

    assert await redis.xrange(streams.alerts.name) == before[5:]
    assert await redis.xlen(streams.dead_letters.name) == 1
    assert [row["lag"] for row in await redis.xinfo_groups(streams.alerts.name)] == [5, 2]  # alerts, recorder
    await redis.aclose()
    await say(valkey_url, streams.alerts, "new")
    assert await consume(valkey_url, streams.alerts, "recorder", 3) == ["number 8", "number 9", "new"]
    assert await consume(valkey_url, streams.alerts, "alerts", 6) == [*texts[5:], "new"]


async def test_a_long_backlog_comes_back_whole(valkey_url: str, mode: str, tmp_path: Path) -> None:
    stream = Streams(mode).alerts
    await say(valkey_url, stream, *(f"{number}" for number in range(2 * PORTION + 1)))
    redis = open_redis(valkey_url)
    before = await redis.xrange(stream.name)
    await dump(redis, [stream], tmp_path)
    await clear(redis, [stream], mode, force=True)
    await load(redis, dumps_in(tmp_path, [stream]))
    assert await redis.xrange(stream.name) == before
    await redis.aclose()


async def test_a_stream_of_an_exchange_that_is_not_here_is_refused(valkey_url: str, mode: str, tmp_path: Path) -> None:
    stream = Streams(mode).commands("kraken", "main")
    await say(valkey_url, stream, "one")
    redis = open_redis(valkey_url)
    await dump(redis, [stream], tmp_path)
    await redis.aclose()
    with pytest.raises(BackupError, match="kraken"):
        dumps_in(tmp_path, Streams(mode).shared)
    (tmp_path / quote(stream.name, safe="")).write_bytes(b"\xc1")
    with pytest.raises(BackupError, match="cannot be read"):
        dumps_in(tmp_path, [stream])
