"""Public streams: who listens to which, and the frames that the market's events become.

Source: https://github.com/binance/binance-spot-api-docs/blob/master/web-socket-streams.md, read 2026-11-21.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from decimal import Decimal

import msgspec
import structlog

from common_models.base import Side
from runtime.clock import now_ns
from simulator.candles import Bar, flat_bar, joined
from simulator.exchange import Market, SimulatedExchange
from simulator.faults import FaultAction, FaultPoint, Faults
from simulator.sockets import Socket
from simulator.tape import PublicTrade
from simulator.venues.binance import market_payloads as payloads
from simulator.venues.binance.market_endpoints import INTERVALS_NS
from simulator.venues.binance.numbers import levels, number

log = structlog.get_logger(__name__)

TICK_S = 0.1
_TICKS_PER_S = 10
_KLINE_TICKS = 20
_PARTIAL_DEPTHS = (5, 10, 20)
Changes = dict[tuple[Side, Decimal], Decimal]
_encode = msgspec.json.Encoder().encode


class Subscriber:
    """One market stream connection and what it listens to."""

    def __init__(self, *, combined: bool) -> None:
        self.combined = combined
        self.streams: dict[str, None] = {}
        self.socket: Socket | None = None

    def put(self, stream: str, payload: bytes) -> None:
        if self.socket is not None:
            self.socket.send(b'{"stream":"%s","data":%s}' % (stream.encode(), payload) if self.combined else payload)


class Hub:
    """Who listens to which stream. `recorded` streams come from a replay and are never generated."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._listeners: dict[str, dict[Subscriber, None]] = {}
        self.subscribers: dict[Subscriber, None] = {}
        self.recorded: set[str] = set()
        self.frames = 0
        self.subscribed = asyncio.Event()

    def join(self, subscriber: Subscriber, streams: Iterable[str]) -> None:
        self.subscribers[subscriber] = None
        for stream in streams:
            subscriber.streams[stream] = None
            self._listeners.setdefault(stream, {})[subscriber] = None
            self.subscribed.set()

    def leave(self, subscriber: Subscriber, streams: Iterable[str]) -> None:
        for stream in list(streams):
            subscriber.streams.pop(stream, None)
            listeners = self._listeners.get(stream)
            if listeners is not None:
                listeners.pop(subscriber, None)
                if not listeners:
                    del self._listeners[stream]

    def drop(self, subscriber: Subscriber) -> None:
        """Forget a connection that has closed."""
        self.leave(subscriber, subscriber.streams)
        self.subscribers.pop(subscriber, None)

    def wanted(self, stream: str) -> bool:
        """Whether somebody listens and the stream is ours to generate."""
        return stream in self._listeners and stream not in self.recorded

    def send(self, stream: str, payload: bytes) -> None:
        """Give one payload to everyone who listens to `stream`."""
        listeners = self._listeners.get(stream)
        if not listeners:
            return
        if self._faults:
            rule = self._faults.draw(FaultPoint.STREAM, stream, payload.decode())
            if rule is not None and rule.action is FaultAction.CLOSE:
                for listener in list(listeners):
                    if listener.socket is not None:
                        listener.socket.abort()
            if rule is not None:
                return
        self.frames += len(listeners)
        for listener in listeners:
            listener.put(stream, payload)

    def send_raw(self, stream: str, combined: bytes, payload: bytes) -> None:
        """Give a recorded frame to everyone who listens: byte for byte, wrapped or not as the connection is."""
        for listener in self._listeners.get(stream, ()):
            self.frames += 1
            if listener.socket is not None:
                listener.socket.send(combined if listener.combined else payload)

    async def room(self) -> None:
        """Wait until no client is far behind."""
        for subscriber in list(self.subscribers):
            if subscriber.socket is not None:
                await subscriber.socket.room()

    def announce_shutdown(self) -> None:
        """Tell everyone that the server is about to go."""
        payload = _encode({"e": "serverShutdown", "E": now_ns() // 1_000_000})
        for subscriber in list(self.subscribers):
            subscriber.put("!serverShutdown", payload)
            if subscriber.socket is not None:
                subscriber.socket.close(1001, b"Server shutdown")


class Publisher:
    """Turn what happens in the markets into stream frames: trades and best prices at once, the rest on a clock."""

    def __init__(self, hub: Hub, exchange: SimulatedExchange) -> None:
        self._hub = hub
        self._exchange = exchange
        self._feeds = [_MarketFeed(hub, market, exchange) for market in exchange.markets.values()]
        self._by_symbol = {feed.market.symbol: feed for feed in self._feeds}

    def on_trades(self, market: Market, trades: list[PublicTrade]) -> None:
        self._by_symbol[market.symbol].trades(trades)

    def on_top(self, market: Market) -> None:
        self._by_symbol[market.symbol].top()

    def on_bar(self, market: Market, bar: Bar) -> None:
        self._by_symbol[market.symbol].bar_closed(bar)

    async def run(self) -> None:
        """Publish depth, tickers and klines for ever, on time (a late turn is not made up for)."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        tick = 0
        while True:
            tick += 1
            for feed in self._feeds:
                feed.depth(slow=tick % _TICKS_PER_S == 0)
                if tick % _TICKS_PER_S == 0:
                    feed.second()
                if tick % _KLINE_TICKS == 0:
                    feed.klines()
            if tick % _TICKS_PER_S == 0:
                self._all_tickers()
            due_s = max(due_s + TICK_S, loop.time() - TICK_S)
            await asyncio.sleep(due_s - loop.time())

    def _all_tickers(self) -> None:
        for stream, mini in (("!miniTicker@arr", True), ("!ticker@arr", False)):
            if self._hub.wanted(stream):
                rows = [payloads.stream_ticker(feed.market, self._exchange.market_clock(), mini=mini) for feed in self._feeds]
                self._hub.send(stream, _encode([row for row in rows if row is not None]))


class _MarketFeed:
    """The streams of one symbol."""

    def __init__(self, hub: Hub, market: Market, exchange: SimulatedExchange) -> None:
        self.market = market
        self._exchange = exchange
        self._hub = hub
        self._symbol = market.instrument.native_symbol
        self._prefix = self._symbol.lower() + "@"
        self._sent_id = market.book.update_id
        self._slow_sent_id = market.book.update_id
        self._slow_changes: Changes = {}

    def trades(self, trades: list[PublicTrade]) -> None:
        hub = self._hub
        stream = self._prefix + "trade"
        if hub.wanted(stream):
            for trade in trades:
                hub.send(stream, _encode(payloads.stream_trade(self._symbol, trade)))
        stream = self._prefix + "aggTrade"
        if hub.wanted(stream):
            for group in payloads.aggregates(trades):
                body = payloads.aggregate_body(group)
                hub.send(stream, _encode({"e": "aggTrade", "E": body["T"], "s": self._symbol} | body))

    def top(self) -> None:
        stream = self._prefix + "bookTicker"
        if self._hub.wanted(stream):
            bid, bid_size, ask, ask_size = payloads.book_top(self.market)
            body = {"u": self.market.book.update_id, "s": self._symbol, "b": bid, "B": bid_size, "a": ask, "A": ask_size}
            self._hub.send(stream, _encode(body))

    def depth(self, *, slow: bool) -> None:
        """Diffs and partial books: every 100 ms, and every tenth time also those of a second."""
        book = self.market.book
        changes = book.take_changes()
        if changes:
            self._slow_changes |= changes
            self._send_diff("depth@100ms", self._sent_id, changes)
            self._sent_id = book.update_id
            self._send_partials("@100ms")
        if slow and self._slow_changes:
            self._send_diff("depth", self._slow_sent_id, self._slow_changes)
            self._slow_sent_id = book.update_id
            self._slow_changes = {}
            self._send_partials("")

    def _send_diff(self, name: str, sent_id: int, changes: Changes) -> None:
        stream = self._prefix + name
        if not self._hub.wanted(stream):
            return
        body = {
            "e": "depthUpdate",
            "E": now_ns() // 1_000_000,
            "s": self._symbol,
            "U": sent_id + 1,
            "u": self.market.book.update_id,
            "b": levels((price, size) for (side, price), size in changes.items() if side is Side.BUY),
            "a": levels((price, size) for (side, price), size in changes.items() if side is Side.SELL),
        }
        self._hub.send(stream, _encode(body))

    def _send_partials(self, suffix: str) -> None:
        for count in _PARTIAL_DEPTHS:
            stream = f"{self._prefix}depth{count}{suffix}"
            if self._hub.wanted(stream):
                self._hub.send(stream, _encode(payloads.book_levels(self.market, count)))

    def second(self) -> None:
        moment = self._exchange.market_clock()
        for name, mini in (("ticker", False), ("miniTicker", True)):
            stream = self._prefix + name
            if self._hub.wanted(stream):
                body = payloads.stream_ticker(self.market, moment, mini=mini)
                if body is not None:
                    self._hub.send(stream, _encode(body))
        stream = self._prefix + "avgPrice"
        average = self.market.candles.average_price(5) if self._hub.wanted(stream) else None
        if average is not None:
            last = self.market.tape.last(1)
            body = {
                "e": "avgPrice",
                "E": moment // 1_000_000,
                "s": self._symbol,
                "i": "5m",
                "w": number(average),
                "T": (last[0].ts_ns if last else moment) // 1_000_000,
            }
            self._hub.send(stream, _encode(body))

    def klines(self) -> None:
        """The running bar of each interval that someone listens to."""
        moment = self._exchange.market_clock()
        for interval, width_ns in INTERVALS_NS.items():
            stream = f"{self._prefix}kline_{interval}"
            if not self._hub.wanted(stream):
                continue
            open_ns = moment - moment % width_ns
            running = self._joined(open_ns, width_ns)
            if running is None and self.market.book.last_price is not None:
                running = flat_bar(open_ns, self.market.book.last_price)
            if running is not None:
                self._send_kline(stream, interval, running, width_ns, closed=False)

    def bar_closed(self, bar: Bar) -> None:
        """A minute ended, and with it perhaps a wider interval."""
        end_ns = bar.open_ns + INTERVALS_NS["1m"]
        for interval, width_ns in INTERVALS_NS.items():
            stream = f"{self._prefix}kline_{interval}"
            if end_ns % width_ns == 0 and self._hub.wanted(stream):
                whole = bar if interval == "1m" else self._joined(end_ns - width_ns, width_ns)
                if whole is not None:
                    self._send_kline(stream, interval, whole, width_ns, closed=True)

    def _joined(self, open_ns: int, width_ns: int) -> Bar | None:
        inside = [bar for bar in self.market.candles.bars() if open_ns <= bar.open_ns < open_ns + width_ns]
        return next(joined(inside, width_ns), None)

    def _send_kline(self, stream: str, interval: str, bar: Bar, width_ns: int, *, closed: bool) -> None:
        body = payloads.stream_kline(self._symbol, interval, bar, width_ns, self._exchange.market_clock(), closed=closed)
        self._hub.send(stream, _encode(body))
