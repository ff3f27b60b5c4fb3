"""Looking at the bus from outside: sizes, rates, lags and newest entries of a mode's streams, over one small connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from bus.codec import decode
from bus.connection import Connection, Reply
from bus.errors import BusError, CodecError, ServerError
from bus.lanes import FIELD
from bus.streams import Stream, Streams
from common_models import AnyMessage
from runtime.settings import Settings

UNKNOWN_LAG = -1


@dataclass(frozen=True, slots=True)
class GroupState:
    """How far a consumer group is: `lag` entries not read yet (-1: the server cannot say), `pending` read and not acknowledged."""

    stream: str
    group: str
    consumers: int
    pending: int
    lag: int


@dataclass(frozen=True, slots=True)
class StreamState:
    """`length` entries are there now, `added` were ever added."""

    name: str
    length: int
    added: int
    last_id: str
    groups: tuple[GroupState, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One stream entry; `body` is the message as it was written."""

    stream: str
    entry_id: str
    body: bytes

    @property
    def position(self) -> tuple[int, int]:
        """What orders entries of all streams: the server's milliseconds, and a number within one."""
        milliseconds, _, number = self.entry_id.partition("-")
        return int(milliseconds), int(number or 0)

    @property
    def message(self) -> AnyMessage:
        """The decoded message; raises CodecError."""
        return decode(self.body)


def json_or_text(body: bytes) -> object:
    """A message body to print: JSON as it is, or text when it is none (which may be why somebody looks)."""
    try:
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body.decode(errors="replace")
    return msgspec.Raw(body)


def kind_of(stream_name: str) -> str:
    """The last part of a stream name, `commands` for the commands of any account."""
    return "commands" if ":commands:" in stream_name else stream_name.rpartition(":")[2]


def streams_of(settings: Settings) -> list[Stream]:
    """Every stream of the configured mode and exchanges."""
    streams = Streams(settings.mode.value)
    found: list[Stream] = []
    for name, exchange in settings.exchanges.items():
        found += streams.all_of(name, exchange.account)
    return [*found, *streams.shared]


async def stream_states(connection: Connection, streams: Iterable[Stream]) -> list[StreamState]:
    """The state of each stream that exists, its groups included; raises BusUnavailable."""
    names = [stream.name for stream in streams]
    infos = [connection.command("XINFO", "STREAM", name) for name in names]
    groups = [connection.command("XINFO", "GROUPS", name) for name in names]
    replies = await asyncio.gather(*infos, *groups, return_exceptions=True)
    found = []
    for name, info, group_rows in zip(names, replies[: len(names)], replies[len(names) :], strict=True):
        if isinstance(info, ServerError) or isinstance(group_rows, ServerError):
            continue  # no such stream yet
        for reply in (info, group_rows):
            if isinstance(reply, BaseException):
                raise reply
        found.append(_stream_state(name, info, group_rows))
    return found


def _stream_state(name: str, info: Reply, group_rows: Reply) -> StreamState:
    fields = _pairs(info)
    groups = []
    for row in group_rows:
        group = _pairs(row)
        lag = group.get(b"lag")
        groups.append(
            GroupState(
                stream=name,
                group=group[b"name"].decode(errors="replace"),
                consumers=int(group[b"consumers"]),
                pending=int(group[b"pending"]),
                lag=UNKNOWN_LAG if lag is None else int(lag),
            )
        )
    return StreamState(
        name=name,
        length=int(fields[b"length"]),
        added=int(fields.get(b"entries-added", 0)),
        last_id=fields[b"last-generated-id"].decode(),
        groups=tuple(groups),
    )


async def newest(connection: Connection, stream: Stream, count: int) -> list[Entry]:
    """The newest `count` entries, newest first."""
    return _entries(stream.name, await connection.command("XREVRANGE", stream.name, "+", "-", "COUNT", count))


async def entries_after(connection: Connection, after: dict[str, str], count: int, block_ms: int | None = None) -> list[Entry]:
    """Up to `count` entries per stream after the given ids, stream by stream; waits `block_ms` for the first one when given."""
    blocking: Sequence[str | int] = () if block_ms is None else ("BLOCK", block_ms)
    timeout_s = 5.0 + (block_ms or 0) / 1000
    reply = await connection.command("XREAD", "COUNT", count, *blocking, "STREAMS", *after, *after.values(), timeout_s=timeout_s)
    return [entry for name, rows in reply or () for entry in _entries(name.decode(), rows)]


def readable(entries: Iterable[Entry]) -> list[AnyMessage]:
    """The messages of entries; what cannot be read is left out."""
    found = []
    for entry in entries:
        try:
            found.append(entry.message)
        except CodecError:
            continue  # consumers count and park these; here we only look
    return found


def _entries(name: str, rows: Reply) -> list[Entry]:
    field = FIELD.encode()
    return [Entry(name, entry_id.decode(), _pairs(values or ()).get(field, b"")) for entry_id, values in rows]


def _pairs(flat: Sequence[Reply]) -> dict[bytes, Reply]:
    if len(flat) % 2:
        raise BusError(f"expected names and values, got {len(flat)} items")
    return dict(zip(flat[::2], flat[1::2], strict=True))
