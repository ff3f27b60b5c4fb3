"""What the market says: turns the bus's streams into the present state of each market and tells observers of every event."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from heapq import merge
from operator import attrgetter

import structlog

from bot.candle_history import CandleHistory, Change
from bot.observer import Observable
from common_models import (
    AggregateTrade,
    AnyMessage,
    Candle,
    ConnectionState,
    ConnectorStatus,
    Gap,
    Instrument,
    MarketEvent,
    OrderBook,
    Ticker,
    Trade,
)
from runtime.clock import monotonic_s
from strategy import Market

log = structlog.get_logger(__name__)

ORDER_LEG = "orders"
TELL_ERRORS_EVERY_S = 10.0

KEEP_CANDLES = 1000
KEEP_EVENTS = {"on_ticker": 2000, "on_trade": 2000, "on_book": 100}
"""How many of the newest events of a market are at hand for a plugin that appears, by the callback that takes them."""


@dataclass(slots=True)
class MarketState:
    """The newest of each kind that was seen of one market."""

    candles: CandleHistory
    recent: dict[str, deque[MarketEvent]]
    ticker: Ticker | None = None
    book: OrderBook | None = None
    instrument: Instrument | None = None


@dataclass(frozen=True, slots=True)
class CandlesRebuilt:
    """Told instead of a candle when the unbroken run of a market's candles is another one: read it anew."""

    market: Market
    run: list[Candle] = field(default_factory=list)


class DataProvider(Observable):
    """The state of the markets that are configured; others are ignored. Observers hear of an event after the state has it.

    `handle` is the tail reader's handler: it runs in the turn in which the bytes came, and never fails.
    """

    def __init__(self, markets: Iterable[Market], timeframe: str, keep_candles: int = KEEP_CANDLES) -> None:
        super().__init__()
        self._timeframe = timeframe
        self._markets = {market: MarketState(CandleHistory(keep_candles), _recent()) for market in markets}
        self._order_legs: dict[tuple[str, str], ConnectorStatus] = {}
        self._takers: dict[type, Callable[..., bool]] = {
            Ticker: self._take_ticker,
            Trade: self._take_trade,
            AggregateTrade: self._take_trade,
            OrderBook: self._take_book,
            Candle: self._take_candle,
            Instrument: self._take_instrument,
            Gap: self._take_gap,
        }
        self.events = 0
        self.gaps = 0
        self.missed = 0
        self.failures = 0
        self._told_failure_s = 0.0

    @property
    def markets(self) -> tuple[Market, ...]:
        return tuple(self._markets)

    def handle(self, stream: str, message: AnyMessage) -> None:
        """Take in one message and tell observers; a failure is counted, logged now and then, and goes no further."""
        self.events += 1
        try:
            take = self._takers.get(type(message))
            if take is None or take(message):
                self.notify_observers(message)
        except Exception:  # the boundary of all synchronous work: the reader must live on
            self.failures += 1
            if monotonic_s() - self._told_failure_s > TELL_ERRORS_EVERY_S:
                self._told_failure_s = monotonic_s()
                log.exception("data.handler_failed", stream=stream, message_id=message.message_id, failures=self.failures)

    def ticker(self, exchange: str, symbol: str) -> Ticker | None:
        state = self._markets.get(Market(exchange, symbol))
        return state.ticker if state else None

    def book(self, exchange: str, symbol: str) -> OrderBook | None:
        """The newest book; None where books are not followed."""
        state = self._markets.get(Market(exchange, symbol))
        return state.book if state else None

    def instrument(self, exchange: str, symbol: str) -> Instrument | None:
        state = self._markets.get(Market(exchange, symbol))
        return state.instrument if state else None

    def mark(self, exchange: str, symbol: str) -> Decimal | None:
        """What a holder would get now: the best bid; None before the first one."""
        ticker = self.ticker(exchange, symbol)
        return ticker.bid_price if ticker else None

    def run_of(self, market: Market) -> list[Candle]:
        """The unbroken run of closed candles up to the newest."""
        return self._markets[market].candles.run

    def run_length(self, market: Market) -> int:
        return self._markets[market].candles.run_length

    def keep_candles(self, count: int) -> None:
        """Keep at least so many candles of every market from now on."""
        for state in self._markets.values():
            state.candles.keep_at_least(count)

    def recent(self, market: Market, callbacks: Iterable[str], limit: int) -> list[MarketEvent]:
        """The newest events that these callbacks take, at most `limit` of each, in the order in which they came."""
        kept = self._markets[market].recent
        newest = [list(kept[name])[-limit:] for name in callbacks if name in kept]
        return list(merge(*newest, key=attrgetter("ts_recv_ns")))

    def order_entry_state(self, exchange: str, account: str) -> tuple[ConnectionState | None, str]:
        """What the connector says of its order entry, and why; (None, "") before it said anything."""
        status = self._order_legs.get((exchange, account))
        return (status.state, status.reason) if status else (None, "")

    def note_status(self, status: ConnectorStatus) -> None:
        """Take in what a connector says of itself."""
        if status.leg == ORDER_LEG:
            self._order_legs[status.exchange, status.account] = status

    def add_history(self, market: Market, candles: Iterable[Candle]) -> None:
        """Take in past candles from elsewhere, in any order."""
        state = self._markets[market]
        wanted = (candle for candle in candles if candle.timeframe == self._timeframe)
        if state.candles.extend(wanted) is not Change.NONE:
            self.notify_observers(CandlesRebuilt(market, state.candles.run))

    def _take_ticker(self, ticker: Ticker) -> bool:
        state = self._markets.get(Market(ticker.exchange, ticker.symbol))
        if state is None:
            return False
        state.ticker = ticker
        if not ticker.crossed:
            state.recent["on_ticker"].append(ticker)
        return True

    def _take_trade(self, trade: Trade) -> bool:
        state = self._markets.get(Market(trade.exchange, trade.symbol))
        if state is None:
            return False
        state.recent["on_trade"].append(trade)
        return True

    def _take_book(self, book: OrderBook) -> bool:
        state = self._markets.get(Market(book.exchange, book.symbol))
        if state is None:
            return False
        state.book = book
        if not book.valid or book.crossed:
            return False
        state.recent["on_book"].append(book)
        return True

    def _take_candle(self, candle: Candle) -> bool:
        market = Market(candle.exchange, candle.symbol)
        state = self._markets.get(market)
        if state is None or candle.timeframe != self._timeframe or not candle.closed:
            return False
        change = state.candles.add(candle)
        if change is Change.REBUILT:
            self.notify_observers(CandlesRebuilt(market, state.candles.run))
        return change is Change.APPENDED

    def _take_instrument(self, instrument: Instrument) -> bool:
        state = self._markets.get(Market(instrument.exchange, instrument.symbol))
        if state is None:
            return False
        state.instrument = instrument
        return True

    def _take_gap(self, gap: Gap) -> bool:
        self.gaps += 1
        self.missed += gap.count or 0
        return True


def _recent() -> dict[str, deque[MarketEvent]]:
    return {name: deque(maxlen=keep) for name, keep in KEEP_EVENTS.items()}
