"""The messages that nobody could handle: looked at, put back or dropped by people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from bus.errors import BusError
from bus.lanes import FIELD
from bus.streams import Stream

MAX_LISTED = 1000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One parked message. `letter_id` is its place in the dead letters, `entry_id` the one that it had in `stream`."""

    letter_id: str
    stream: str
    entry_id: str
    group: str
    error: str
    parked_ns: int
    payload: bytes


class NoSuchLetter(BusError):
    """There is no dead letter with this id."""


async def list_letters(redis: Redis, dead_letters: Stream, count: int = 100, after: str = "-") -> list[DeadLetter]:
    """Up to `count` letters, oldest first; `after` is the id of the last one already seen."""
    start = after if after == "-" else f"({after}"
    rows: Any = await redis.xrange(dead_letters.name, min=start, count=min(count, MAX_LISTED))
    return [_letter(letter_id, fields) for letter_id, fields in rows]


async def show_letter(redis: Redis, dead_letters: Stream, letter_id: str) -> DeadLetter:
    """One letter; raises NoSuchLetter."""
    rows: Any = await redis.xrange(dead_letters.name, min=letter_id, max=letter_id, count=1)
    if not rows:
        raise NoSuchLetter(f"no dead letter {letter_id!r} in {dead_letters.name}; `tradebot bus dead-letters` lists them")
    return _letter(*rows[0])


async def replay_letter(redis: Redis, dead_letters: Stream, letter_id: str) -> str:
    """Put a message back into its stream, for all groups, and drop the letter, in one step; returns the new entry id.

    Its message id is unchanged, so groups that handled it the first time drop it as a copy. Raises NoSuchLetter.
    """
    letter = await show_letter(redis, dead_letters, letter_id)
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.xadd(letter.stream, {FIELD: letter.payload})
        pipeline.xdel(dead_letters.name, letter_id)
        entry_id, _ = await pipeline.execute()
    return str(entry_id.decode())


async def drop_letter(redis: Redis, dead_letters: Stream, letter_id: str) -> None:
    """Give a message up for ever; raises NoSuchLetter."""
    if not await redis.xdel(dead_letters.name, letter_id):
        raise NoSuchLetter(f"no dead letter {letter_id!r} in {dead_letters.name}; `tradebot bus dead-letters` lists them")


def _letter(letter_id: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    text = {
        name: fields.get(name.encode(), b"").decode(errors="replace")
        for name in ("stream", "entry_id", "group", "error", "parked_ns")
    }
    parked_ns = int(text["parked_ns"]) if text["parked_ns"].isdigit() else 0
    payload = fields.get(b"payload", b"")
    return DeadLetter(letter_id.decode(), text["stream"], text["entry_id"], text["group"], text["error"], parked_ns, payload)
