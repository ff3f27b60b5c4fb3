"""Events made up for tests: a series of prices becomes candles, quotes, trades or books of one market."""

from __future__ import annotations

import random
from collections.abc import Iterable
from decimal import Decimal

from common_models import Candle, MarketEvent, OrderBook, Side, Ticker, Trade
from strategy.plugin import Market

MARKET = Market("test", "BTC/USDT")
MILLISECOND_NS = 1_000_000
MINUTE_NS = 60_000 * MILLISECOND_NS
START_NS = 1_700_000_040_000 * MILLISECOND_NS
"""The time of the first event, on a full minute."""

Prices = Iterable[float | str]


def walk(count: int, start: float = 100.0, step: float = 0.2, seed: int = 1) -> list[str]:
    """Prices that wander at random, the same for the same `seed`; `step` is the usual move in percent."""
    dice = random.Random(seed)  # noqa: S311 a market, not a secret
    prices, price = [], start
    for _ in range(count):
        price *= 1 + dice.gauss(0, step) / 100
        prices.append(f"{price:.2f}")
    return prices


def candles(closes: Prices, timeframe_ns: int = MINUTE_NS, start_ns: int = START_NS) -> list[Candle]:
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


def tickers(prices: Prices, spread: str = "0", start_ns: int = START_NS, every_ns: int = MILLISECOND_NS) -> list[Ticker]:
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


def trades(prices: Prices, start_ns: int = START_NS, every_ns: int = MILLISECOND_NS, side: Side = Side.BUY) -> list[Trade]:
    """Public trades of one unit each at the prices; `side` is the taker's."""
    return [
        Trade(
            message_id=f"test.trades:1:{number + 1}",
            exchange=MARKET.exchange,
            symbol=MARKET.symbol,
            ts_event_ns=start_ns + number * every_ns,
            ts_recv_ns=start_ns + number * every_ns,
            trade_id=str(number + 1),
            side=side,
            price=Decimal(str(price)),
            size=Decimal(1),
        )
        for number, price in enumerate(prices)
    ]


def books(
    prices: Prices,
    spread: str = "0.02",
    bid_size: str = "1",
    ask_size: str = "1",
    depth: int = 5,
    start_ns: int = START_NS,
    every_ns: int = MILLISECOND_NS,
) -> list[OrderBook]:
    """Books around the prices: `depth` levels a side, one cent from each other, each of the size of its side."""
    half, cent = Decimal(spread) / 2, Decimal("0.01")
    bid, ask = Decimal(bid_size), Decimal(ask_size)
    return [
        OrderBook(
            message_id=f"test.books:1:{number + 1}",
            exchange=MARKET.exchange,
            symbol=MARKET.symbol,
            ts_event_ns=None,
            ts_recv_ns=start_ns + number * every_ns,
            sequence=number + 1,
            valid=True,
            crossed=False,
            bids=tuple((Decimal(str(price)) - half - cent * level, bid) for level in range(depth)),
            asks=tuple((Decimal(str(price)) + half + cent * level, ask) for level in range(depth)),
        )
        for number, price in enumerate(prices)
    ]


def mixed(*series: Iterable[MarketEvent]) -> list[MarketEvent]:
    """Several series as one, in the order in which they would have come."""
    return sorted((event for events in series for event in events), key=lambda event: event.ts_recv_ns)
