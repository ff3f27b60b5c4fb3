"""Public operations: time, rules, book, trades, klines, tickers."""

from __future__ import annotations

import json
from typing import Any

from runtime.clock import now_ns
from simulator.candles import MINUTE_NS, joined
from simulator.exchange import MAX_OPEN_ORDERS, Market
from simulator.venues.binance import market_payloads as payloads
from simulator.venues.binance.api import Asked, Endpoint
from simulator.venues.binance.errors import ApiError, mandatory
from simulator.venues.binance.numbers import number
from simulator.venues.binance.params import Params

HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
INTERVALS_NS = {
    "1m": MINUTE_NS,
    "3m": 3 * MINUTE_NS,
    "5m": 5 * MINUTE_NS,
    "15m": 15 * MINUTE_NS,
    "30m": 30 * MINUTE_NS,
    "1h": HOUR_NS,
    "2h": 2 * HOUR_NS,
    "4h": 4 * HOUR_NS,
    "6h": 6 * HOUR_NS,
    "8h": 8 * HOUR_NS,
    "12h": 12 * HOUR_NS,
    "1d": DAY_NS,
    "3d": 3 * DAY_NS,
}
"""The venue also has 1s, 1w and 1M; a week and a month do not start at a multiple of their length, and a second keeps no past."""
_MAX_DEPTH = 5000
_MAX_ROWS = 1000


def ping(_: Asked) -> dict[str, Any]:
    return {}


def server_time(_: Asked) -> dict[str, Any]:
    return {"serverTime": now_ns() // 1_000_000}


def exchange_info(asked: Asked) -> dict[str, Any]:
    context = asked.context
    markets = _markets(asked) or list(context.by_native.values())
    return {
        "timezone": "UTC",
        "serverTime": now_ns() // 1_000_000,
        "rateLimits": context.limits.described(),
        "exchangeFilters": [],
        "symbols": [payloads.symbol_info(market.instrument, MAX_OPEN_ORDERS) for market in markets],
    }


def depth(asked: Asked) -> dict[str, Any]:
    market = asked.context.market(asked.params)
    limit = asked.params.integer("limit", 100, 1) or 100
    return payloads.book_levels(market, min(limit, _MAX_DEPTH))


def depth_weight(params: Params) -> int:
    limit = params.integer("limit", 100) or 100
    return next((weight for bound, weight in ((100, 5), (500, 25), (1000, 50)) if limit <= bound), 250)


def recent_trades(asked: Asked) -> list[Any]:
    market = asked.context.market(asked.params)
    return [payloads.rest_trade(trade) for trade in market.tape.last(_rows(asked.params))]


def historical_trades(asked: Asked) -> list[Any]:
    market = asked.context.market(asked.params)
    first = asked.params.integer("fromId")
    rows = _rows(asked.params)
    trades = market.tape.last(rows) if first is None else market.tape.since(first, rows)
    return [payloads.rest_trade(trade) for trade in trades]


def aggregate_trades(asked: Asked) -> list[Any]:
    params = asked.params
    market = asked.context.market(params)
    rows = _rows(params)
    first, start_ms, end_ms = params.integer("fromId"), params.integer("startTime"), params.integer("endTime")
    groups = payloads.aggregates(market.tape.since(0, 10**6))
    bodies = [payloads.aggregate_body(group) for group in groups]
    if first is not None:
        return [body for body in bodies if body["a"] >= first][:rows]
    if start_ms is None and end_ms is None:
        return bodies[-rows:]
    inside = [body for body in bodies if (start_ms or 0) <= body["T"] <= (end_ms if end_ms is not None else body["T"])]
    return inside[:rows]


def klines(asked: Asked) -> list[Any]:
    params = asked.params
    market = asked.context.market(params)
    interval = params.required("interval")
    if interval not in INTERVALS_NS:
        raise ApiError(-1120, "Invalid interval.")
    width_ns = INTERVALS_NS[interval]
    rows = _rows(params)
    start_ms, end_ms = params.integer("startTime"), params.integer("endTime")
    bars = list(joined(market.candles.bars(), width_ns))
    if end_ms is not None:
        bars = [bar for bar in bars if bar.open_ns <= end_ms * 1_000_000]
    if start_ms is not None:
        bars = [bar for bar in bars if bar.open_ns >= start_ms * 1_000_000][:rows]
    return [payloads.rest_kline(bar, width_ns) for bar in bars[-rows:]]


def average_price(asked: Asked) -> dict[str, Any]:
    market = asked.context.market(asked.params)
    last = market.tape.last(1)
    return {
        "mins": 5,
        "price": number(market.candles.average_price(5)),
        "closeTime": last[0].ts_ns // 1_000_000 if last else 0,
    }


def day_ticker(asked: Asked) -> Any:
    mini = asked.params.text("type") == "MINI"
    rows = [payloads.day_ticker(market, asked.context.exchange.market_clock(), mini=mini) for market in _chosen(asked)]
    return _one_or_all(asked, [row for row in rows if row is not None])


def price_ticker(asked: Asked) -> Any:
    rows = [{"symbol": market.instrument.native_symbol, "price": number(market.book.last_price)} for market in _chosen(asked)]
    return _one_or_all(asked, rows)


def book_ticker(asked: Asked) -> Any:
    rows = []
    for market in _chosen(asked):
        bid, bid_size, ask, ask_size = payloads.book_top(market)
        rows.append(
            {
                "symbol": market.instrument.native_symbol,
                "bidPrice": bid,
                "bidQty": bid_size,
                "askPrice": ask,
                "askQty": ask_size,
            }
        )
    return _one_or_all(asked, rows)


def _rows(params: Params) -> int:
    return min(params.integer("limit", 500, 1) or 500, _MAX_ROWS)


def _markets(asked: Asked) -> list[Market]:
    """The markets named by `symbol` or `symbols`; empty when neither is given."""
    params, context = asked.params, asked.context
    if "symbol" in params:
        return [context.market(params)]
    text = params.text("symbols")
    if text is None:
        return []
    try:
        names = json.loads(text)
    except ValueError:
        raise ApiError(-1135, "Invalid JSON Request") from None
    if not isinstance(names, list) or not names or len(names) > 1000:
        raise mandatory("symbols")
    markets = [context.by_native.get(name) for name in names if isinstance(name, str)]
    if len(markets) != len(names) or None in markets:
        raise ApiError(-1121, "Invalid symbol.")
    return [market for market in markets if market is not None]


def _chosen(asked: Asked) -> list[Market]:
    return _markets(asked) or list(asked.context.by_native.values())


def _one_or_all(asked: Asked, rows: list[Any]) -> Any:
    if "symbol" not in asked.params:
        return rows
    if not rows:
        raise ApiError(-1121, "Invalid symbol.")
    return rows[0]


def _per_symbol(one: int, every: int) -> Any:
    return lambda params: one if "symbol" in params else every


PING = Endpoint("ping", ping)
TIME = Endpoint("time", server_time)
EXCHANGE_INFO = Endpoint("exchangeInfo", exchange_info, 20)
DEPTH = Endpoint("depth", depth, depth_weight)
RECENT_TRADES = Endpoint("trades.recent", recent_trades, 25)
HISTORICAL_TRADES = Endpoint("trades.historical", historical_trades, 25)
AGGREGATE_TRADES = Endpoint("trades.aggregate", aggregate_trades, 4)
KLINES = Endpoint("klines", klines, 2)
AVERAGE_PRICE = Endpoint("avgPrice", average_price, 2)
DAY_TICKER = Endpoint("ticker.24hr", day_ticker, _per_symbol(2, 80))
PRICE_TICKER = Endpoint("ticker.price", price_ticker, _per_symbol(2, 4))
BOOK_TICKER = Endpoint("ticker.book", book_ticker, _per_symbol(2, 4))
