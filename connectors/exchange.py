"""What an exchange is to the rest of the connector: market data, an account, and a way to read captured frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bus.streams import Stream, Streams
from common_models import DayStats, Message
from connectors.rest import RestClient
from connectors.websocket import WebSocket
from runtime.settings import ExchangeSettings

Put = Callable[[Stream, Message], object]
NoteDayStats = Callable[[DayStats[str], str], None]
"""Takes statistics and the venue's own symbol, beside the stream: for the last-value hashes."""


@dataclass(frozen=True, slots=True)
class FeedContext:
    """What a feed is given. `put` publishes without waiting; while `congested()` the socket is handed to `relieve`, which
    stops reading it until the bus has caught up."""

    settings: ExchangeSettings
    streams: Streams
    put: Put
    congested: Callable[[], bool]
    relieve: Callable[[WebSocket], None]
    report: Callable[[bool, str], None]
    rest: RestClient
    note_day_stats: NoteDayStats


class Feed(Protocol):
    """Market data of one exchange, published until stopped."""

    async def run(self, stop: asyncio.Event) -> None: ...


class CaptureDecoder(Protocol):
    """Reads captured lines in order. State, such as books, is kept from line to line."""

    def on_line(self, url: str, raw: bytes, ts_recv_ns: int) -> None:
        """Take one incoming message of the capture; what it says is handed to the `put` that the decoder was made with."""
        ...

    @property
    def rejected(self) -> int:
        """Messages that could not be read."""
        ...

    @property
    def unsynced(self) -> tuple[str, ...]:
        """Symbols whose book updates never met a snapshot."""
        ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange: its name and how to make its parts."""

    name: str
    feed: Callable[[FeedContext], Feed]
    decoder: Callable[[Put], CaptureDecoder]
