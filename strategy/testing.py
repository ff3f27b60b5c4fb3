"""A test kit for plugins: make events, feed them, look at the signals. No bus, no clock, no waiting.

plugin = running(Momentum, lookback=3)
signals = feed(plugin, tickers([100, 101, 102, 103]))
assert [signal.direction for signal in signals] == [Direction.BUY]
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from common_models import Candle, MarketEvent, Side, Signal, Ticker, Trade
from strategy.plugin import CALLBACKS, Market, Plugin, make_plugin

START_NS = 1_700_000_040 * 1_000_000_000
"""The time of the first event, on a full minute."""

MINUTE_NS = 60 * 1_000_000_000
MARKET = Market("test", "BTC/USDT")


def running(kind: type[Plugin[Any]], **settings: Any) -> Plugin[Any]:
    """An instance of a plugin at work on BTC/USDT of the exchange `test`; raises PluginError for wrong settings."""
    return make_plugin(kind, settings, MARKET)


def feed(plugin: Plugin[Any], events: Iterable[MarketEvent]) -> list[Signal]:
    """Hand over the events that the plugin subscribes to, in order; returns its signals."""
    wanted = plugin.subscriptions()
    signals: list[Signal] = []
    for event in events:
        callback = CALLBACKS.get(type(event))
        if callback in wanted:
            signals.extend(getattr(plugin, callback)(event) or ())
    return signals


def candles(closes: Iterable[float | str], timeframe_ns: int = MINUTE_NS, start_ns: int = START_NS) -> list[Candle]:
    """Closed candles of one minute that move from close to close."""
    made: list[Candle] = []
    last: Decimal | None = None
    for number, text in enumerate(closes):
        close = Decimal(str(text))
        opened = close if last is None else last
        open_ns = start_ns + number * timeframe_ns
        made.append(
            Candle(
                message_id=f"test.candles:1:{number + 1}",
                exchange=MARKET.exchange,
                symbol=MARKET.symbol,
                ts_event_ns=open_ns + timeframe_ns,
                ts_recv_ns=open_ns + timeframe_ns,
                timeframe="1m",
                open_ns=open_ns,
                close_ns=open_ns + timeframe_ns,
                open=opened,
                high=max(opened, close),
                low=min(opened, close),
                close=close,
                volume=Decimal(1),
                quote_volume=close,
                trade_count=1,
                closed=True,
            )
        )
        last = close
    return made


def tickers(prices: Iterable[float | str], spread: str = "0", start_ns: int = START_NS, every_ns: int = 1_000_000) -> list[Ticker]:
    """Best bids and offers around the prices, `spread` apart."""
    half = Decimal(spread) / 2
    return [
        Ticker(
            message_id=f"test.tickers:1:{number + 1}",
            exchange=MARKET.exchange,
            symbol=MARKET.symbol,
            ts_event_ns=None,
            ts_recv_ns=start_ns + number * every_ns,
            bid_price=Decimal(str(price)) - half,
            bid_size=Decimal(1),
            ask_price=Decimal(str(price)) + half,
            ask_size=Decimal(1),
            crossed=False,
        )
        for number, price in enumerate(prices)
    ]


def trades(prices: Iterable[float | str], start_ns: int = START_NS, every_ns: int = 1_000_000) -> list[Trade]:
    """Public trades of one unit each at the prices."""
    return [
        Trade(
            message_id=f"test.trades:1:{number + 1}",
            exchange=MARKET.exchange,
            symbol=MARKET.symbol,
            ts_event_ns=start_ns + number * every_ns,
            ts_recv_ns=start_ns + number * every_ns,
            trade_id=str(number + 1),
            side=Side.BUY,
            price=Decimal(str(price)),
            size=Decimal(1),
        )
        for number, price in enumerate(prices)
    ]
