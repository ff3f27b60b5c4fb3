"""What an exchange is to the rest of the connector: market data, an account, and a way to read captured frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from bus.streams import Stream, Streams
from common_models import DayStats, Instrument, Message
from connectors.order_entry import OrderEntry
from connectors.rate_budget import RateBudget
from connectors.rest import RestClient
from connectors.websocket import WebSocket
from runtime.settings import ExchangeSettings

Put = Callable[[Stream, Message], object]
NoteDayStats = Callable[[DayStats[str], str], None]
"""Takes statistics and the venue's own symbol, beside the stream: for the last-value hashes."""


@dataclass(frozen=True, slots=True)
class FeedContext:
    """What a feed is given.

    `url` is the market-data socket. `put` publishes without waiting; while `congested()` the socket is handed to `relieve`, which
    stops reading it until the bus has caught up. The feed keeps `instruments` (by our symbol) up to date for the orders' side.
    `clock_offset_ns` is the venue's clock minus ours, as far as known.
    """

    settings: ExchangeSettings
    url: str
    streams: Streams
    put: Put
    congested: Callable[[], bool]
    relieve: Callable[[WebSocket], None]
    report: Callable[[bool, str], None]
    rest: RestClient
    note_day_stats: NoteDayStats
    instruments: dict[str, Instrument]
    clock_offset_ns: Callable[[], int] = lambda: 0


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
class VenueUrls:
    """Where a venue is: REST, the market-data socket, and the socket for orders and account events."""

    rest: str
    market: str
    orders: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """An API key. The secret shows in no repr."""

    key: SecretStr
    secret: SecretStr


@dataclass(frozen=True, slots=True)
class Venue:
    """One account at a venue. Everything that is asked of it shares one budget and one clock. `rest` is opened by its owner."""

    rest: RestClient
    budget: RateBudget
    entry: OrderEntry


class Connect(Protocol):
    """Makes the parts that speak to a venue; opens nothing. `instruments` gives the known markets by our symbol, at any time."""

    def __call__(
        self,
        urls: VenueUrls,
        settings: ExchangeSettings,
        credentials: Credentials,
        instruments: Callable[[], Mapping[str, Instrument]],
    ) -> Venue: ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange: its name, where it is, and how to make its parts.

    `local_urls` gives the same places on a simulator, by its base URL; `credentials` are the environment names of the API key and
    its secret.
    """

    name: str
    urls: VenueUrls
    local_urls: Callable[[str], VenueUrls]
    credentials: tuple[str, str]
    connect: Connect
    feed: Callable[[FeedContext], Feed]
    decoder: Callable[[Put], CaptureDecoder]
