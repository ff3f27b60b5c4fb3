"""Reading streams from a point on, without a group: every reader sees everything, and learns what it missed.

The handler is called in the socket's callback, with nothing in between: that is where the latency of market data is decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import structlog

from bus.connection import REPLY_TIMEOUT_S, Connection, Reply, pack
from bus.delivery_times import DeliveryTimes
from bus.errors import AuthRefused, BusError
from bus.interfaces import TailHandler
from bus.lanes import FIELD
from bus.stream_info import id_key, stream_info
from bus.streams import Stream
from bus.tail import Tail
from runtime.backoff import Backoff
from runtime.metrics import expose_counter

log = structlog.get_logger(__name__)

COUNT: Final = 256
BLOCK_MS: Final = 2000

_FIELD: Final = FIELD.encode()


class TailReader:
    """Follow several streams on one connection; see `bus.interfaces.Reader`.

    `start` is "$" (what comes from now on), "0" (all that is there) or "-30000" (from 30,000 ms before the newest entry on), for
    all streams or by name; by name also the last id already seen. Streams that are not named start at "0". `run` survives restarts
    of the server, also empty ones, and goes on where it was.
    """

    def __init__(
        self,
        url: str,
        streams: Sequence[Stream],
        start: str | Mapping[str, str] = "$",
        name: str = "reader",
        block_ms: int = BLOCK_MS,
        reply_timeout_s: float = REPLY_TIMEOUT_S,
    ) -> None:
        if not streams:
            raise ValueError("a reader needs at least one stream")
        self.name = name
        self.connects = 0
        self._url = url
        self._answer_s = block_ms / 1000 + reply_timeout_s
        starts = {stream.name: start if isinstance(start, str) else start.get(stream.name, "0") for stream in streams}
        times = DeliveryTimes(name)
        self._tails = {stream: Tail(stream, position, times) for stream, position in starts.items()}
        self._labels = {stream.name: stream.label for stream in streams}
        self._by_key = {name.encode(): tail for name, tail in self._tails.items()}
        self._head: tuple[str | int, ...] = ("XREAD", "COUNT", COUNT, "BLOCK", block_ms, "STREAMS", *self._tails)

    @property
    def positions(self) -> dict[str, str]:
        """The last entry id handed over, by stream name: what `start` takes to go on from here."""
        return {name: tail.position for name, tail in self._tails.items()}

    @property
    def missed(self) -> int:
        """Messages known to be lost to this reader."""
        return sum(tail.missed for tail in self._tails.values())

    @property
    def copies(self) -> int:
        return sum(tail.copies for tail in self._tails.values())

    @property
    def handler_errors(self) -> int:
        return sum(tail.handler_errors for tail in self._tails.values())

    async def run(self, handle: TailHandler, stop: asyncio.Event) -> None:
        """Read until `stop` is set. Raises AuthRefused when the server does not let us in, and nothing else."""
        self._expose_metrics()
        backoff = Backoff(first_s=0.05, cap_s=2.0, stable_s=5.0)
        stopping: asyncio.Future[object] = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                try:
                    await self._session(handle, stopping)
                    continue
                except AuthRefused:
                    raise
                except BusError as error:
                    wait_s = backoff.next_s()
                    log.warning("bus.reader_reconnecting", reader=self.name, error=str(error), wait_s=round(wait_s, 3))
                await asyncio.wait({stopping}, timeout=wait_s)
        finally:
            stopping.cancel()

    async def _session(self, handle: TailHandler, stopping: asyncio.Future[object]) -> None:
        """One connection, from its start to its end; raises what ended it, and returns when `stopping` is done."""
        connection = await Connection.open(self._url, name=self.name)
        try:
            self.connects += 1
            await self._check_positions(connection, handle)
            pump = _Pump(self, connection, handle)
            pump.request()
            while not stopping.done():
                waits: set[asyncio.Future[Any]] = {stopping, connection.closed, pump.idle}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if connection.closed.done():
                    raise connection.closed.result()
                if pump.idle.done() and not stopping.done():
                    error = pump.idle.result()
                    if error is not None:
                        raise error
                    await self._check_positions(connection, handle)
                    pump.resume()
        finally:
            connection.close()

    async def _check_positions(self, connection: Connection, handle: TailHandler) -> None:
        """Resolve "$", and notice streams that were lost with the server and have begun anew with smaller ids."""
        tails = self._tails.values()
        infos = await asyncio.gather(*(stream_info(connection, tail.name) for tail in tails))
        for tail, info in zip(tails, infos, strict=True):
            last_id = info.last_id
            if tail.position == "$":
                tail.position = last_id
            elif tail.position.startswith("-"):
                tail.position = f"{max(id_key(last_id)[0] + int(tail.position), 0)}-0"
            elif id_key(last_id) < id_key(tail.position):
                tail.restart(f"the server lost the stream: its last entry is {last_id}, ours was {tail.position}", handle)

    def _expose_metrics(self) -> None:
        totals = {
            "tradebot_bus_read_messages": ("Entries read from the bus", "received"),
            "tradebot_bus_missed_messages": ("Messages lost to this reader", "missed"),
            "tradebot_bus_unreadable_entries": ("Entries that could not be read", "unreadable"),
            "tradebot_bus_handler_errors": ("Failures of the handler", "handler_errors"),
        }
        for stream, tail in self._tails.items():
            for name, (help_text, total) in totals.items():
                labels = {"reader": self.name, "stream": self._labels[stream]}
                expose_counter(name, help_text, labels, partial(getattr, tail, total))


class _Pump:
    """Request, handle, request: without a task in between. `idle` is done when a read came back empty, or with what went wrong."""

    def __init__(self, reader: TailReader, connection: Connection, handle: TailHandler) -> None:
        self._reader = reader
        self._connection = connection
        self._handle = handle
        self._timeout_s = reader._answer_s
        self.idle: asyncio.Future[BusError | None] = asyncio.get_running_loop().create_future()

    def request(self) -> None:
        reader = self._reader
        command = pack(*reader._head, *[tail.position for tail in reader._tails.values()])
        self._connection.send(command, self._receive, timeout_s=self._timeout_s)

    def resume(self) -> None:
        self.idle = asyncio.get_running_loop().create_future()
        self.request()

    def _receive(self, reply: Reply) -> None:
        if isinstance(reply, list):
            by_key, handle = self._reader._by_key, self._handle
            for key, entries in reply:
                tail = by_key[key]
                tail.begin_read()
                take = tail.take
                for entry_id, fields in entries:
                    take(entry_id.decode(), fields[1] if len(fields) == 2 and fields[0] == _FIELD else None, handle)
            try:
                self.request()
            except BusError as error:
                self._finish(error)
        else:
            self._finish(reply)

    def _finish(self, error: BusError | None) -> None:
        if not self.idle.done():
            self.idle.set_result(error)
