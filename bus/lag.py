"""How full the streams are and who lags behind: for `tradebot bus lag`, the janitor and alerts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from bus.streams import Stream


@dataclass(frozen=True, slots=True)
class GroupLag:
    """`lag` counts entries not delivered yet (None when the server cannot tell), `pending` those delivered and not acknowledged.

    `first_needed` is the lowest entry id that the group still has to handle; what lies before it may go.
    """

    name: str
    consumers: int
    pending: int
    lag: int | None
    last_delivered_id: str
    first_needed: str


@dataclass(frozen=True, slots=True)
class StreamLag:
    """One stream as it is now; `bytes` is the memory that it takes, `added` counts all entries that it ever got."""

    name: str
    length: int
    bytes: int
    first_id: str
    last_id: str
    groups: tuple[GroupLag, ...]
    added: int


async def measure(redis: Redis, streams: Iterable[Stream]) -> list[StreamLag]:
    """The streams that exist, in the order given."""
    found = [await measure_stream(redis, stream.name) for stream in streams]
    return [lag for lag in found if lag is not None]


async def measure_stream(redis: Redis, name: str) -> StreamLag | None:
    """One stream, or None when it does not exist."""
    if await redis.type(name) != b"stream":
        return None
    info: dict[str, Any] = await redis.xinfo_stream(name)
    size = await redis.memory_usage(name) or 0
    groups = [await _group_lag(redis, name, row) for row in await redis.xinfo_groups(name)]
    first = info["first-entry"]
    first_id = first[0].decode() if first else "0-0"
    last_id = info["last-generated-id"].decode()
    return StreamLag(name, info["length"], size, first_id, last_id, tuple(groups), info["entries-added"])


async def _group_lag(redis: Redis, name: str, row: dict[str, Any]) -> GroupLag:
    delivered = row["last-delivered-id"].decode()
    needed = next_id(delivered)
    if row["pending"]:
        oldest = (await redis.xpending(name, row["name"]))["min"]
        needed = oldest.decode() if oldest else needed
    return GroupLag(row["name"].decode(), row["consumers"], row["pending"], row.get("lag"), delivered, needed)


def next_id(entry_id: str) -> str:
    """The smallest id after this one."""
    milliseconds, _, sequence = entry_id.partition("-")
    return f"{milliseconds}-{int(sequence or 0) + 1}"
