"""What the rest of the system may ask of the bus, whether it is Redis (`publisher`, `reader`, `consumer`) or `memory`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from bus.streams import Stream
from common_models import AnyMessage, Message

TailHandler = Callable[[str, AnyMessage], None]
"""Called with the stream's name and the message, synchronously: it must be quick and must not fail."""


class Delivery(NamedTuple):
    """One message for a consumer group.

    `entry_id` is the stream's (never a time), empty for a Gap that the consumer found out by itself. `attempts` counts from 1.
    """

    stream: str
    entry_id: str
    message: AnyMessage
    attempts: int = 1


BatchHandler = Callable[[Sequence[Delivery]], Awaitable[None]]
"""Handles deliveries in order; returning means that their effect is durable and they may be acknowledged."""


class Retry(Exception):
    """Raised by a handler: not now. The same deliveries come again after a wait, and no attempt is counted."""


class Unacceptable(ValueError):
    """Raised by a handler: never. The message is parked without another attempt, so that many of its kind delay no good ones."""


class Publisher(Protocol):
    async def start(self) -> None:
        """Connect. Raises AuthRefused; a server that cannot be reached is waited for in the background."""

    def put(self, stream: Stream, message: Message) -> str:
        """Hand a message over and return its `message_id`; never waits. Raises CodecError and, for lossless streams, BufferFull."""

    def put_many(self, stream: Stream, messages: Iterable[Message]) -> None:
        """`put` for several messages of one stream."""

    async def flushed(self) -> None:
        """Wait until the server has acknowledged (or a bound has dropped) all that was put so far."""

    async def room(self) -> None:
        """Wait until lossless streams take more: for producers that can wait."""

    async def close(self, grace_s: float = 5.0) -> int:
        """Wait up to `grace_s` for the acknowledgements and end; returns how many messages remain unacknowledged."""


class Reader(Protocol):
    async def run(self, handle: TailHandler, stop: asyncio.Event) -> None:
        """Hand every message over until `stop` is set, and a Gap wherever some were missed."""


class Consumer(Protocol):
    async def run(self, handle: BatchHandler, stop: asyncio.Event) -> None:
        """Hand deliveries over until `stop` is set; each is repeated until it is handled or parked in the dead letters."""
