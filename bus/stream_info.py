"""What the server knows about a stream, and the order of entry ids."""

from __future__ import annotations

from dataclasses import dataclass

from bus.connection import Connection
from bus.errors import ServerError


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """`last_id` is the newest id ever given out, `added` counts all entries ever, `removed` those that are gone."""

    last_id: str = "0-0"
    added: int = 0
    removed: int = 0


async def stream_info(connection: Connection, name: str) -> StreamInfo:
    """The state of a stream; one that does not exist is empty."""
    try:
        reply = await connection.command("XINFO", "STREAM", name)
    except ServerError as error:
        if error.code == "ERR":  # no such key
            return StreamInfo()
        raise
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    added = fields[b"entries-added"]
    return StreamInfo(fields[b"last-generated-id"].decode(), added, added - fields[b"length"])


def id_key(entry_id: str) -> tuple[int, int]:
    """An entry id in a form that compares: `1700000000000-5` is (1700000000000, 5)."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)
