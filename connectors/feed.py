"""Keeping a venue's market-data socket open: reconnect when it breaks, replace it before the venue's limit ends it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from common_models import ConnectionState
from connectors.errors import TransientError
from connectors.websocket import WebSocket
from runtime import metrics
from runtime.backoff import Backoff

log = structlog.get_logger(__name__)

OpenSocket = Callable[[], Awaitable[WebSocket]]
"""Connect and subscribe; returns when every subscription is acknowledged. Raises TransientError."""
OnDown = Callable[[str], None]
OnState = Callable[[ConnectionState, str], None]


class SocketKeeper:
    """Owns one connection at a time, two while the next takes over (make before break)."""

    def __init__(
        self, exchange: str, open_socket: OpenSocket, on_down: OnDown, on_state: OnState, *, lifetime_s: float, backoff: Backoff
    ) -> None:
        """`lifetime_s` is how long a connection is used before it is replaced; it is shortened by up to a tenth at random, so that
        many connectors do not reconnect together."""
        self._exchange = exchange
        self._open = open_socket
        self._on_down = on_down
        self._on_state = on_state
        self._lifetime_s = lifetime_s
        self._backoff = backoff
        self._renew = asyncio.Event()
        self.current: WebSocket | None = None
        self.reconnects = 0
        metrics.expose_counter(
            "tradebot_feed_reconnects",
            "Market-data sockets opened after the first",
            {"exchange": exchange},
            lambda: self.reconnects,
        )
        metrics.expose_gauge(
            "tradebot_feed_connected", "The market-data socket is open and subscribed", {"exchange": exchange}, self._is_connected
        )

    def _is_connected(self) -> bool:
        return self.current is not None and not self.current.closed.done()

    def renew(self, reason: str) -> None:
        """Replace the connection now, keeping the old one until the new one delivers."""
        log.info("feed.renewing", exchange=self._exchange, reason=reason)
        self._renew.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep a connection until `stop`; transient errors are waited out, every other error is let out."""
        try:
            while not stop.is_set():
                await self._turn(stop)
        finally:
            if self.current is not None:
                self.current.close("stopped")
            self._on_state(ConnectionState.STOPPED, "stopped")

    async def _turn(self, stop: asyncio.Event) -> None:
        """Open the next connection, then wait until it must be replaced or is lost."""
        if self.current is None:
            self._on_state(ConnectionState.CONNECTING, "")
        try:
            fresh = await self._open()
        except TransientError as error:
            await self._wait(stop, error.detail)
            return
        if self.current is not None:
            self.current.close("replaced by a fresh connection")
        self.current = fresh
        self._renew.clear()
        self._on_state(ConnectionState.CONNECTED, "")
        if await self._until_over(fresh, stop):
            return
        reason = fresh.closed.result() if fresh.closed.done() else "stopped"
        self.current = None
        if not stop.is_set():
            self._on_down(reason)
            await self._wait(stop, reason)

    async def _wait(self, stop: asyncio.Event, reason: str) -> None:
        wait_s = self._backoff.next_s()
        self.reconnects += 1
        self._on_state(ConnectionState.RECONNECTING, reason)
        log.warning("feed.reconnecting", exchange=self._exchange, reason=reason, wait_s=round(wait_s, 2))
        try:
            await asyncio.wait_for(stop.wait(), wait_s)
        except TimeoutError:
            return

    async def _until_over(self, socket: WebSocket, stop: asyncio.Event) -> bool:
        """Wait for the end of a connection; True when it still works and is only to be replaced."""
        lifetime_s = self._lifetime_s * (1 - random.random() / 10)  # noqa: S311 jitter
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._renew.wait())]
        try:
            await asyncio.wait([socket.closed, *waits], timeout=lifetime_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return not socket.closed.done() and not stop.is_set()
