"""Market data of Binance spot, live: the socket, book snapshots, missed trades and candles, silent subscriptions, instruments."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec
import structlog

from bus.streams import Streams
from common_models import ConnectionState, ConnectorStatus, Message
from common_models.instruments import same_rules
from connectors.errors import ExchangeError, TransientError
from connectors.exchange import FeedContext
from connectors.exchanges.binance.channels import (
    EXCHANGE_NAME,
    AggTradeChannel,
    CandleChannel,
    Channel,
    Hole,
    TradeChannel,
)
from connectors.exchanges.binance.decoder import Decoder
from connectors.exchanges.binance.depth import DepthChannel
from connectors.exchanges.binance.feed_metrics import FeedMetrics
from connectors.exchanges.binance.history import MarketHistory
from connectors.exchanges.binance.instruments import instrument
from connectors.exchanges.binance.symbols import native_symbol
from connectors.exchanges.binance.wire import AnyFrame
from connectors.feed import SocketKeeper
from connectors.frame_times import FrameTimes
from connectors.websocket import WebSocket, open_websocket
from runtime.backoff import Backoff
from runtime.clock import now_ns

log = structlog.get_logger(__name__)

LIFETIME_S = 23.5 * 3600
"""Binance ends a connection after 24 hours."""
CONGESTION_CHECK_FRAMES = 64
SUBSCRIBE_AT_ONCE = 200
ACK_TIMEOUT_S = 10.0
INSTRUMENTS_EVERY_S = 600.0
HOLE_TRIES = 5
MAX_HOLES = 1_000


class BinanceFeed:
    """Market data of the configured symbols, published until stopped."""

    def __init__(self, context: FeedContext) -> None:
        self._context = context
        self._settings = context.settings
        self._streams: Streams = context.streams
        self._history = MarketHistory(context.rest)
        self.decoder = Decoder(context.streams, context.put, self._on_hole, context.note_day_stats, context.settings.book_depth)
        self.decoder.on_reply = self._on_reply
        self.decoder.on_shutdown = lambda: self._keeper.renew("the exchange announced a shutdown")
        suffixes = [
            f"@{'aggTrade' if context.settings.trades == 'aggregate' else 'trade'}",
            "@bookTicker",
            "@ticker",
            "@depth@100ms",
        ]
        suffixes += [f"@kline_{timeframe}" for timeframe in context.settings.timeframes]
        for symbol in context.settings.symbols:
            self.decoder.subscribe(symbol, native_symbol(symbol), suffixes)
        times = FrameTimes(EXCHANGE_NAME, context.clock_offset_ns)
        for channel in self.decoder.channels.values():
            channel.times = times
        self._keeper = SocketKeeper(
            EXCHANGE_NAME, self._open, self._on_down, self._on_state, lifetime_s=LIFETIME_S, backoff=Backoff()
        )
        self._request_ids = count(1)
        self._replies: dict[int, asyncio.Future[None]] = {}
        self._holes: asyncio.Queue[tuple[Channel, Hole]] = asyncio.Queue(MAX_HOLES)
        self._state = ConnectionState.CONNECTING
        FeedMetrics(self.decoder, self._holes.qsize).expose()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set."""
        await self._publish_past_candles()
        async with asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(self._refresh_instruments(), name="instruments"),
                tasks.create_task(self._fill_holes(), name="holes"),
                tasks.create_task(self._watch_silence(), name="silence"),
            ]
            await self._keeper.run(stop)
            for helper in helpers:
                helper.cancel()

    @property
    def ready(self) -> bool:
        """Connected, and every book is live."""
        return self._state is ConnectionState.CONNECTED and all(book.live for book in self._books())

    def _books(self) -> list[DepthChannel]:
        return [channel for channel in self.decoder.channels.values() if isinstance(channel, DepthChannel)]

    # --- the socket ---------------------------------------------------------------------------------------------------------

    async def _open(self) -> WebSocket:
        """Connect and subscribe to everything; a refused or unanswered subscription is a failed connection."""
        frame, congested, relieve = self.decoder.on_frame, self._context.congested, self._context.relieve
        socket: WebSocket | None = None
        left = CONGESTION_CHECK_FRAMES

        def on_message(message: bytes) -> None:
            nonlocal left
            frame(message, now_ns())
            left -= 1
            if not left:
                left = CONGESTION_CHECK_FRAMES
                if congested() and socket is not None:
                    relieve(socket)

        socket = await open_websocket(self._context.url, on_message)
        try:
            names = list(self.decoder.channels)
            for start in range(0, len(names), SUBSCRIBE_AT_ONCE):
                await self._request(socket, "SUBSCRIBE", names[start : start + SUBSCRIBE_AT_ONCE])
        except TransientError:
            socket.close("not subscribed")
            raise
        for book in self._books():
            if not book.live:
                self._on_hole(book, Hole("a new book", None, None, now_ns(), now_ns()))
        return socket

    async def _request(self, socket: WebSocket, method: str, names: Sequence[str]) -> None:
        number = next(self._request_ids)
        reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        try:
            await socket.send(msgspec.json.encode({"method": method, "params": names, "id": number}))
            ends: list[asyncio.Future[Any]] = [reply, socket.closed]
            await asyncio.wait(ends, timeout=ACK_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if not reply.done():
                reason = socket.closed.result() if socket.closed.done() else f"no answer within {ACK_TIMEOUT_S} s"
                raise TransientError(f"{method} of {len(names)} streams: {reason}")
            reply.result()
        finally:
            self._replies.pop(number, None)

    def _on_reply(self, frame: AnyFrame) -> None:
        try:
            number = msgspec.json.decode(frame.id, type=int) if frame.id else 0
        except msgspec.MsgspecError:
            number = 0
        reply = self._replies.get(number)
        if reply is None or reply.done():
            log.warning(
                "feed.unexpected_reply", exchange=EXCHANGE_NAME, error=bytes(frame.error or b"").decode("utf-8", "replace")[:200]
            )
        elif not frame.error:
            reply.set_result(None)
        else:
            reply.set_exception(TransientError(f"subscription refused: {_text(frame.error)}"))

    def _on_down(self, reason: str) -> None:
        at_ns = now_ns()
        for channel in self.decoder.channels.values():
            channel.disconnected(at_ns, reason)

    def _on_state(self, state: ConnectionState, reason: str) -> None:
        if state is self._state and not reason:
            return
        self._state = state
        self._context.report(state is ConnectionState.CONNECTED, reason or state.value)
        self._say(state, reason)

    def _say(self, state: ConnectionState, reason: str, subject: str = "") -> None:
        account = self._settings.account
        status = ConnectorStatus(
            exchange=EXCHANGE_NAME,
            account=account,
            ts_event_ns=None,
            ts_recv_ns=now_ns(),
            leg="market_data",
            state=state,
            reason=reason,
            subject=subject,
        )
        self._context.put(self._streams.account(EXCHANGE_NAME, account, "status"), status)

    # --- what was missed ----------------------------------------------------------------------------------------------------

    def _on_hole(self, channel: Channel, hole: Hole) -> None:
        """Something is missing: have it fetched; when too much is waiting already, say so in the stream."""
        try:
            self._holes.put_nowait((channel, hole))
        except asyncio.QueueFull:
            channel.publish_gap(hole, now_ns(), healed=False)

    async def _fill_holes(self) -> None:
        """Fetch what is missing, one hole at a time, for ever."""
        while True:
            channel, hole = await self._holes.get()
            if isinstance(channel, DepthChannel):
                await self._sync_book(channel)
            elif await self._backfilled(channel, hole):
                channel.publish_gap(hole, now_ns(), healed=True)
            else:
                channel.publish_gap(hole, now_ns(), healed=False)

    async def _sync_book(self, channel: DepthChannel) -> None:
        """Ask for snapshots until one bridges to the buffered updates."""
        backoff = Backoff(first_s=0.2, cap_s=10.0)
        while not channel.live and self._keeper.current is not None:
            try:
                snapshot = await self._history.depth(channel.native)
                if channel.on_snapshot(snapshot, now_ns()):
                    return
                reason = "the snapshot is older than the first buffered update"
            except (ExchangeError, ValueError) as error:
                reason = str(error)
            log.info("book.snapshot_retry", exchange=EXCHANGE_NAME, symbol=channel.symbol, reason=reason)
            await asyncio.sleep(backoff.next_s())

    async def _backfilled(self, channel: Channel, hole: Hole) -> bool:
        """Fetch and publish the events of a hole; False when the venue did not have all of them."""
        backoff = Backoff(first_s=0.5, cap_s=10.0)
        for _ in range(HOLE_TRIES):
            try:
                return await self._fetch(channel, hole)
            except (ExchangeError, ValueError) as error:
                log.warning("feed.backfill_retry", exchange=EXCHANGE_NAME, stream=channel.name, reason=str(error))
                await asyncio.sleep(backoff.next_s())
        return False

    async def _fetch(self, channel: Channel, hole: Hole) -> bool:
        events: Sequence[Message]
        if isinstance(channel, CandleChannel):
            events = await self._history.candles(channel, hole)
            for event in events:
                self._context.put(channel.stream, event)
            return bool(events)
        if not isinstance(channel, TradeChannel | AggTradeChannel) or hole.first is None or hole.last is None:
            return False
        at = hole.first
        while at <= hole.last:
            if isinstance(channel, TradeChannel):
                page = await self._history.trades(channel, at, hole.last)
            else:
                page = await self._history.aggregate_trades(channel, at, hole.last)
            if not page or int(page[0].trade_id) != at:
                return False
            for trade in page:
                self._context.put(channel.stream, trade)
            at = int(page[-1].trade_id) + 1
        return True

    async def _publish_past_candles(self) -> None:
        """Closed candles from before the start, so that indicators can warm up; failing that, the bot waits for live ones."""
        for channel in self.decoder.channels.values():
            if isinstance(channel, CandleChannel):
                try:
                    candles = await self._history.candles(channel)
                except (ExchangeError, ValueError) as error:
                    log.warning("feed.no_past_candles", exchange=EXCHANGE_NAME, stream=channel.name, reason=str(error))
                    continue
                for candle in candles:
                    self._context.put(channel.stream, candle)
                    channel.last_open_ms = candle.open_ns // 1_000_000

    # --- what went silent ---------------------------------------------------------------------------------------------------

    async def _watch_silence(self) -> None:
        """Ask the venue whether it has news that a silent subscription did not bring, and if so open a fresh socket."""
        limit_s = self._settings.stale_after_s
        while True:
            await asyncio.sleep(limit_s / 3)
            limit_ns = now_ns() - int(limit_s * 1e9)
            silent = [channel for channel in self.decoder.channels.values() if channel.last_recv_ns < limit_ns]
            if self._state is not ConnectionState.CONNECTED:
                continue
            for channel in silent:
                if await self._is_dead(channel):
                    self._say(ConnectionState.STALE, "the exchange has news that this subscription did not bring", channel.name)
                    channel.disconnected(now_ns(), "subscription fell silent")
                    self._keeper.renew(f"{channel.name} is silent")
                    break

    async def _is_dead(self, channel: Channel) -> bool:
        try:
            return await self._history.moved_on(channel)
        except ExchangeError as error:
            log.warning("feed.silence_unexplained", exchange=EXCHANGE_NAME, stream=channel.name, reason=str(error))
            return False

    # --- the rules of the markets -------------------------------------------------------------------------------------------

    async def _refresh_instruments(self) -> None:
        """Publish the rules of every market at the start and whenever they change."""
        backoff = Backoff(first_s=1.0, cap_s=60.0)
        natives = [native_symbol(symbol) for symbol in self._settings.symbols]
        while True:
            try:
                info = await self._history.exchange_info(natives)
                fresh = [instrument(EXCHANGE_NAME, market, now_ns()) for market in info.symbols]
            except (ExchangeError, ValueError) as error:
                log.warning("feed.no_instruments", exchange=EXCHANGE_NAME, reason=str(error))
                await asyncio.sleep(backoff.next_s())
                continue
            for entry in fresh:
                known = self._context.instruments.get(entry.symbol)
                if known is None or not same_rules(known, entry):
                    self._context.instruments[entry.symbol] = entry
                    self._context.put(self._streams.market(EXCHANGE_NAME, "instruments"), entry)
            await asyncio.sleep(INSTRUMENTS_EVERY_S)


def _text(raw: msgspec.Raw) -> str:
    """The beginning of an error object, for people."""
    return bytes(raw).decode("utf-8", "replace")[:200]
