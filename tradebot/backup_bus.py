"""What somebody still needs of the lossless streams, to files and back: entries that a group has not finished, and dead letters.

The rest is in the history, or known to the journals, which tell it again. Entries are read in small portions: DUMP of a full stream
would stop the server for a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote, unquote

import msgspec
from redis.asyncio import Redis

from bus.lag import GroupLag, measure_stream
from bus.stream_info import id_key
from bus.streams import Stream, StreamClass
from runtime.settings import Settings
from tradebot.backup_archive import BackupError
from tradebot.bus_inspection import streams_of as all_streams

TIMEOUT_S: Final = 30.0
PORTION: Final = 500
LARGEST_SEQUENCE: Final = 2**64 - 1


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One entry, its id and fields as they were."""

    entry_id: str
    fields: dict[bytes, bytes]


class StreamCopy(msgspec.Struct, frozen=True):
    """The end of one stream, and behind which entry each group goes on."""

    groups: dict[str, str]
    entries: list[Entry]


def streams_of(settings: Settings) -> list[Stream]:
    """Every stream of the mode and the enabled exchanges: others have no user who may touch them."""
    return [stream for stream in all_streams(settings) if not stream.exchange or settings.exchanges[stream.exchange].enabled]


async def server_version(redis: Redis) -> str:
    """Such as `valkey 9.1.2`."""
    info: dict[str, Any] = await redis.info("server")
    return f"valkey {info['valkey_version']}" if "valkey_version" in info else f"redis {info['redis_version']}"


async def dump(redis: Redis, streams: Iterable[Stream], target: Path) -> None:
    """Write what is needed of each lossless stream to a file in `target`; market data is the venue's, and in the history."""
    for stream in streams:
        if stream.stream_class is StreamClass.LOSSLESS and (copy := await _copy(redis, stream.name)) is not None:
            (target / quote(stream.name, safe="")).write_bytes(msgspec.msgpack.encode(copy))


async def _copy(redis: Redis, name: str) -> StreamCopy | None:
    """The entries from the first that any group needs (without groups: all), None when nobody needs any."""
    lag = await measure_stream(redis, name)
    if lag is None:
        return None
    start = min((group.first_needed for group in lag.groups), key=id_key, default="0-0")
    entries: list[Entry] = []
    while True:
        rows: Any = await redis.xrange(name, min=start, max=lag.last_id, count=PORTION)
        entries += [Entry(entry_id.decode(), fields) for entry_id, fields in rows]
        if len(rows) < PORTION:
            break
        start = f"({entries[-1].entry_id}"
    return StreamCopy({group.name: _position(group) for group in lag.groups}, entries) if entries else None


def _position(group: GroupLag) -> str:
    """The id behind which a group goes on, so that what it had in hand comes to it again."""
    milliseconds, sequence = id_key(group.first_needed)
    return f"{milliseconds}-{sequence - 1}" if sequence else f"{max(0, milliseconds - 1)}-{LARGEST_SEQUENCE}"


def dumps_in(folder: Path, streams: Iterable[Stream]) -> dict[str, StreamCopy]:
    """The copied streams by name; raises BackupError for one that this configuration does not have."""
    found = {unquote(path.name): path for path in sorted(folder.glob("*"))}
    if strange := sorted(found.keys() - {stream.name for stream in streams}):
        raise BackupError(
            f"the backup holds the stream {strange[0]!r}, which this configuration does not have: enable its exchange"
        )
    try:
        return {name: msgspec.msgpack.decode(path.read_bytes(), type=StreamCopy) for name, path in found.items()}
    except msgspec.MsgspecError as error:
        raise BackupError(f"the backup's streams cannot be read: {error}; use the version that made it") from None


async def clear(redis: Redis, streams: Iterable[Stream], mode: str, *, force: bool) -> None:
    """Delete every stream of the mode; raises BackupError when there are some and `force` is not given.

    The mark by which connectors recognise the bus's data goes as well: they then tell it all that they know.
    """
    names = [stream.name for stream in streams]
    found = [name for name in names if await redis.exists(name)]
    if found and not force:
        raise BackupError(f"the bus holds {len(found)} streams already, such as {found[0]}: --force deletes them")
    await redis.delete(f"{mode}:bus-epoch", *found)


async def load(redis: Redis, copies: Mapping[str, StreamCopy]) -> None:
    """Write the entries under their old ids, and let each group go on where it was."""
    for name, copy in copies.items():
        for start in range(0, len(copy.entries), PORTION):
            async with redis.pipeline(transaction=False) as pipeline:
                for entry in copy.entries[start : start + PORTION]:
                    pipeline.xadd(name, cast("dict[Any, Any]", entry.fields), id=entry.entry_id)
                await pipeline.execute()
        for group, position in copy.groups.items():
            read = sum(id_key(entry.entry_id) <= id_key(position) for entry in copy.entries)
            await redis.xgroup_create(name, group, id=position, entries_read=read)
