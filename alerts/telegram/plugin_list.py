"""The newest state of every plugin, from the stream that the bot tells it on."""

from __future__ import annotations

import asyncio

from bus.codec import decode
from bus.connection import Connection
from bus.errors import BusError, BusUnavailable, CodecError
from bus.lanes import FIELD
from bus.streams import Streams
from common_models import PluginState, PluginStatus
from runtime.endpoints import NotRunning, bus_url
from runtime.settings import Settings

LOOKED_AT = 1_000
"""Entries from the end of the stream: each plugin speaks every ten seconds."""

TIMEOUT_S = 5.0


async def plugin_statuses(settings: Settings) -> dict[str, PluginStatus]:
    """What each plugin said last, by name, without those that were removed. Raises BusUnavailable when the bus is away."""
    stream = Streams(settings.mode.value).plugins
    try:
        async with asyncio.timeout(TIMEOUT_S):
            connection = await Connection.open(bus_url(settings), name="tradebot-telegram", timeout_s=TIMEOUT_S)
            try:
                rows = await connection.command("XREVRANGE", stream.name, "+", "-", "COUNT", LOOKED_AT)
            finally:
                connection.close()
    except (BusError, NotRunning, TimeoutError) as error:
        raise BusUnavailable("the bus is not reachable") from error
    newest: dict[str, PluginStatus] = {}
    for _, fields in rows:
        status = _status(fields)
        if status is not None:
            newest.setdefault(status.name, status)
    return {name: status for name, status in sorted(newest.items()) if status.state is not PluginState.REMOVED}


def _status(fields: list[bytes]) -> PluginStatus | None:
    body = dict(zip(fields[::2], fields[1::2], strict=False)).get(FIELD.encode(), b"")
    try:
        message = decode(body)
    except CodecError:
        return None  # the readers of this stream count and park these; here we only look
    return message if isinstance(message, PluginStatus) else None
