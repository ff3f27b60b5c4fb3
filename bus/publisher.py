"""Publishing: many puts, one write at the end of the event loop's turn, no await per message.

`put` encodes and formats at once, so the caller may reuse what it passed, and the write is a join of bytes. The server's
acknowledgements are counted; what it has not acknowledged when the connection ends is written again after the reconnect, with the
same message ids, so that consumers can tell the copies (reference/faults.md M1, B05).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import structlog
from msgspec.structs import force_setattr

from bus.codec import encode
from bus.connection import REPLY_TIMEOUT_S, Connection
from bus.errors import AuthRefused, BufferFull, BusError, BusUnavailable
from bus.lanes import Lane
from bus.outbox import WRITE_ENTRIES, LosslessOutbox, MarketOutbox
from bus.streams import Stream
from common_models import Message
from runtime.backoff import Backoff
from runtime.clock import now_ns
from runtime.metrics import expose_counter, expose_counters, expose_gauge, hop

log = structlog.get_logger(__name__)

MAX_EPOCH = 100_000_000


@dataclass(frozen=True, slots=True)
class BusLimits:
    """How much a publisher holds for a server that does not take it. Market data beyond is dropped, oldest first."""

    market_entries: int = 100_000
    market_bytes: int = 64 * 1024 * 1024
    lossless_entries: int = 100_000
    lossless_bytes: int = 64 * 1024 * 1024
    reply_timeout_s: float = REPLY_TIMEOUT_S


def new_epoch() -> str:
    """A name for one life of a producer: milliseconds since 1970 and a random tail, digits only."""
    return f"{now_ns() // 1_000_000}{secrets.randbelow(MAX_EPOCH):08d}"


class StreamPublisher:
    """Writes messages to streams; see `bus.interfaces.Publisher`.

    `producer` names the process (`connector-binance`) and is unique among those that run. Message ids are
    `producer.label:epoch:sequence` with one sequence per stream, so that a jump is a loss and its size.
    """

    def __init__(self, url: str, producer: str, epoch: str | None = None, limits: BusLimits | None = None) -> None:
        if not producer or ":" in producer:
            raise ValueError(f"not a producer's name: {producer!r}")
        self.producer = producer
        self.epoch = epoch or new_epoch()
        self.connects = 0
        self.trouble = "not connected yet"
        self._url = url
        limits = limits or BusLimits()
        timeout_s = limits.reply_timeout_s
        delays = hop("bus_to_ack")
        self._market = MarketOutbox(limits.market_entries, limits.market_bytes, self._on_settled, timeout_s, delays)
        self._lossless = LosslessOutbox(limits.lossless_entries, limits.lossless_bytes, self._on_settled, timeout_s, delays)
        self._lanes: dict[str, Lane] = {}
        self._dirty: list[Lane] = []
        self._fresh = 0
        self._scheduled = False
        self._held = False  # the server refuses: nothing is written until the backoff has passed
        self._refusals = Backoff(first_s=0.02, cap_s=1.0)
        self._connection: Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._call_soon: Callable[[Callable[[], None]], object] = _not_started
        self._changed = asyncio.Event()  # something was settled: whoever waits for it looks again

    async def start(self) -> None:
        """Connect and keep connected until `close`. Raises AuthRefused; waits in the background for a server that is away."""
        loop = asyncio.get_running_loop()
        self._call_soon = loop.call_soon
        first: Connection | None = None
        try:
            first = self._connection = await self._open()
            self.trouble = ""
        except AuthRefused:
            raise
        except BusError as error:
            self._say_trouble(error)
        self._keeper = loop.create_task(self._keep_connected(first), name=f"bus.publisher.{self.producer}")
        self._expose_metrics()

    def put(self, stream: Stream, message: Message) -> str:
        """Stamp, encode and queue one message; returns its `message_id`.

        Never waits. Raises CodecError for a message that may not travel and BufferFull for a lossless stream while the server
        takes too little; nothing is queued then.
        """
        lane = self._lanes.get(stream.name) or self._open_lane(stream)
        if lane.blocked:
            raise BufferFull(f"{self._lossless.entries} messages wait for the server ({self.trouble}); {stream.name} takes no more")
        sequence = lane.sequence + 1
        message_id = f"{lane.prefix}{sequence}"
        force_setattr(message, "message_id", message_id)
        force_setattr(message, "ts_pub_ns", now_ns())
        body = encode(message)
        lane.sequence = sequence
        fresh = lane.fresh
        if not fresh:
            self._dirty.append(lane)
        fresh.append(lane.template % (len(body), body))
        self._fresh += 1
        if self._fresh >= WRITE_ENTRIES:
            self._flush()
        elif not self._scheduled:
            self._scheduled = True
            self._call_soon(self._flush_turn)
        return message_id

    def put_many(self, stream: Stream, messages: Iterable[Message]) -> None:
        """Put several messages of one stream, in order."""
        put = self.put
        for message in messages:
            put(stream, message)

    async def flushed(self) -> None:
        """Wait until the server has acknowledged (or a bound has dropped) all that was put so far."""
        self._flush()
        targets = [(outbox, outbox.accepted) for outbox in (self._market, self._lossless)]
        await self._until(lambda: all(outbox.settled >= target and not outbox.retrying for outbox, target in targets))

    async def room(self) -> None:
        """Wait until lossless streams hold less than half of what they may."""
        outbox = self._lossless
        await self._until(lambda: outbox.entries * 2 <= outbox.max_entries and outbox.bytes * 2 <= outbox.max_bytes)

    async def close(self, grace_s: float = 5.0) -> int:
        """Wait up to `grace_s` for the acknowledgements, then end; returns how many messages remain unacknowledged."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self.flushed()
        self._call_soon = _closed
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        self._held = True
        if self._connection is not None:
            self._connection.close()
        left = self.unacknowledged
        if left:
            log.error("bus.publisher_closed_with_loss", producer=self.producer, messages=left, trouble=self.trouble)
        return left

    @property
    def unacknowledged(self) -> int:
        """Messages that were put and are neither acknowledged nor dropped."""
        return self._market.entries + self._lossless.entries + self._fresh

    @property
    def published(self) -> int:
        """Messages that the server has acknowledged."""
        return self._market.settled + self._lossless.settled - self.dropped

    @property
    def dropped(self) -> int:
        """Market data given up because the buffer was full."""
        return sum(lane.dropped for lane in self._lanes.values())

    @property
    def connected(self) -> bool:
        """Whether the server takes what is put; `trouble` says why not."""
        return self._connection is not None and not self.trouble

    # inside

    def _open_lane(self, stream: Stream) -> Lane:
        lane = self._lanes[stream.name] = Lane(stream, self.producer, self.epoch)
        return lane

    def _flush_turn(self) -> None:
        self._scheduled = False
        self._flush()

    def _flush(self) -> None:
        """Move what was put into the outboxes and write it."""
        dirty = self._dirty
        if dirty:
            self._dirty = []
            self._fresh = 0
            for lane in dirty:
                (self._lossless if lane.lossless else self._market).add(lane.take_fresh())
            if self._lossless.over_bounds:
                self._block_lossless(True)
        self._pump()

    def _pump(self) -> None:
        connection = self._connection
        if connection is None or self._held:
            return
        with suppress(BusUnavailable):  # the keeper sees it too, and what was to be written is still held
            self._lossless.pump(connection)
            self._market.pump(connection)

    def _on_settled(self, error: BusError | None) -> None:
        """One write is answered. An error holds everything back for a while; each success frees room."""
        if error is None:
            if self.trouble and self._connection is not None:
                log.info("bus.accepting_again", producer=self.producer, was=self.trouble)
                self.trouble = ""
                self._refusals.reset()
        else:
            self._say_trouble(error)
            if not self._held and not isinstance(error, BusUnavailable):
                self._held = True
                asyncio.get_running_loop().call_later(self._refusals.next_s(), self._release)
        if self._lanes and not self._lossless.over_bounds:
            self._block_lossless(False)
        self._changed.set()
        self._pump()

    def _release(self) -> None:
        self._held = False
        self._pump()

    def _block_lossless(self, blocked: bool) -> None:
        for lane in self._lanes.values():
            lane.blocked = blocked and lane.lossless

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def _open(self) -> Connection:
        connection = await Connection.open(self._url, name=self.producer, on_writable=self._pump)
        self.connects += 1
        return connection

    async def _keep_connected(self, connection: Connection | None) -> None:
        """Own the connection: when it ends, open another and write what was not acknowledged."""
        backoff = Backoff(first_s=0.05, cap_s=2.0, stable_s=5.0)
        while True:
            if connection is None:
                await asyncio.sleep(backoff.next_s())
                try:
                    connection = await self._open()
                except BusError as error:
                    self._say_trouble(error)
                    continue
            self._connection = connection
            self.trouble = ""
            self._pump()
            ended = await asyncio.shield(connection.closed)
            self._connection = connection = None
            self._say_trouble(ended)

    def _say_trouble(self, error: BusError) -> None:
        text = str(error)
        if text != self.trouble:
            log.warning("bus.publisher_trouble", producer=self.producer, error=text, waiting=self.unacknowledged)
        self.trouble = text

    def _expose_metrics(self) -> None:
        labels = {"producer": self.producer}
        expose_counter("tradebot_bus_published_messages", "Messages acknowledged by the bus", labels, lambda: self.published)
        expose_counter("tradebot_bus_dropped_messages", "Market data dropped before the bus", labels, lambda: self.dropped)
        expose_counter(
            "tradebot_bus_resent_messages", "Messages written again", labels, lambda: self._market.resent + self._lossless.resent
        )
        expose_counter("tradebot_bus_connects", "Connections opened to the bus", labels, lambda: self.connects)
        expose_gauge("tradebot_bus_unacknowledged_messages", "Messages not acknowledged yet", labels, lambda: self.unacknowledged)
        expose_gauge("tradebot_bus_unacknowledged_bytes", "The same", labels, lambda: self._market.bytes + self._lossless.bytes)
        expose_gauge("tradebot_bus_connected", "Whether the server takes what is put", labels, lambda: self.connected)
        expose_counters("tradebot_bus_put_messages", "Messages handed over", labels, ("stream",), self._put_by_stream)

    def _put_by_stream(self) -> dict[tuple[str, ...], float]:
        return {(lane.stream.label,): lane.sequence for lane in self._lanes.values()}


def _not_started(_: Callable[[], None]) -> object:
    raise RuntimeError("the publisher is not started: await publisher.start() first")


def _closed(_: Callable[[], None]) -> object:
    raise BusUnavailable("the publisher is closed")
