"""The market-data half of a connector: the exchange's feed on one side, the bus on the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from bus.publisher import StreamPublisher
from bus.streams import Streams
from common_models import Instrument
from connectors.exchange import Exchange, FeedContext
from connectors.last_values import LastValues
from connectors.rest import RestClient
from connectors.websocket import WebSocket
from runtime.health import Health
from runtime.settings import ExchangeSettings, Mode

log = structlog.get_logger(__name__)

CONGESTED_ENTRIES = 4_096
"""Unacknowledged entries at which the market socket is no longer read: the venue's bytes then wait in the kernel, not here."""


async def run_market_data(
    exchange: Exchange,
    settings: ExchangeSettings,
    mode: Mode,
    bus_url: str,
    publisher: StreamPublisher,
    *,
    url: str,
    rest: RestClient,
    instruments: dict[str, Instrument],
    health: Health,
    stop: asyncio.Event,
    clock_offset_ns: Callable[[], int] = lambda: 0,
) -> None:
    """Publish the market data of one exchange until `stop`; errors other than the venue's are let out.

    `url` is the venue's market-data socket; `instruments` is filled with the rules of the configured markets, by our symbol.
    """
    last_values = LastValues(bus_url, mode, f"{exchange.name}_spot", settings.quote)
    async with asyncio.TaskGroup() as tasks:
        relief = _Relief(publisher, tasks)
        feed = exchange.feed(
            FeedContext(
                settings=settings,
                url=url,
                streams=Streams(mode.value),
                put=publisher.put,
                congested=lambda: publisher.unacknowledged > CONGESTED_ENTRIES,
                relieve=relief.relieve,
                report=lambda ok, detail: health.report("market_data", ok, detail),
                rest=rest,
                note_day_stats=last_values.note,
                instruments=instruments,
                clock_offset_ns=clock_offset_ns,
            )
        )
        hashes = tasks.create_task(last_values.run(), name="last-values")
        await feed.run(stop)
        hashes.cancel()


class _Relief:
    """Stops reading a socket until the bus has taken what it brought."""

    def __init__(self, publisher: StreamPublisher, tasks: asyncio.TaskGroup) -> None:
        self._publisher = publisher
        self._tasks = tasks
        self._paused: WebSocket | None = None

    def relieve(self, socket: WebSocket) -> None:
        if self._paused is None:
            self._paused = socket
            socket.pause()
            self._tasks.create_task(self._resume(socket), name="relief")

    async def _resume(self, socket: WebSocket) -> None:
        try:
            await self._publisher.flushed()
        finally:
            self._paused = None
            socket.resume()
