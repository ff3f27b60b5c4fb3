"""Market data in the venue's JSON shapes.

Source: https://github.com/binance/binance-spot-api-docs (rest-api.md, web-socket-streams.md), read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from common_models.base import Side
from common_models.instruments import Instrument, InstrumentStatus
from simulator.candles import Bar
from simulator.exchange import Market
from simulator.tape import PublicTrade
from simulator.venues.binance.numbers import Payload, levels, ms, number

ORDER_TYPES = ("LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT")


def symbol_info(instrument: Instrument, max_orders: int) -> Payload:
    trading = instrument.status is InstrumentStatus.TRADING
    return {
        "symbol": instrument.native_symbol,
        "status": "TRADING" if trading else "HALT",
        "baseAsset": instrument.base,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": list(ORDER_TYPES),
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": True,
        "amendAllowed": False,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": _filters(instrument, max_orders),
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }


def _filters(rules: Instrument, max_orders: int) -> list[Payload]:
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": number(rules.min_price),
            "maxPrice": number(rules.max_price),
            "tickSize": number(rules.price_tick),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": number(rules.min_quantity),
            "maxQty": number(rules.max_quantity),
            "stepSize": number(rules.quantity_step),
        },
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": number(None),
            "maxQty": number(rules.max_market_quantity),
            "stepSize": number(rules.market_quantity_step),
        },
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": "5",
            "bidMultiplierDown": "0.2",
            "askMultiplierUp": "5",
            "askMultiplierDown": "0.2",
            "avgPriceMins": 5,
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": number(rules.min_notional),
            "applyMinToMarket": True,
            "maxNotional": number(rules.max_notional),
            "applyMaxToMarket": False,
            "avgPriceMins": 5,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": max_orders},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5},
    ]


def rest_trade(trade: PublicTrade) -> Payload:
    return {
        "id": trade.trade_id,
        "price": number(trade.price),
        "qty": number(trade.size),
        "quoteQty": number(trade.quote_size),
        "time": ms(trade.ts_ns),
        "isBuyerMaker": trade.taker_side is Side.SELL,
        "isBestMatch": True,
    }


def aggregates(trades: Sequence[PublicTrade]) -> list[list[PublicTrade]]:
    """Neighbouring trades of one taker at one price, together."""
    groups: list[list[PublicTrade]] = []
    for trade in trades:
        if groups and groups[-1][0].aggregate_id == trade.aggregate_id:
            groups[-1].append(trade)
        else:
            groups.append([trade])
    return groups


def aggregate_body(group: Sequence[PublicTrade]) -> Payload:
    """The fields that REST and the stream share."""
    first, last = group[0], group[-1]
    return {
        "a": first.aggregate_id,
        "p": number(first.price),
        "q": number(sum((trade.size for trade in group), Decimal(0))),
        "f": first.trade_id,
        "l": last.trade_id,
        "T": ms(last.ts_ns),
        "m": first.taker_side is Side.SELL,
        "M": True,
    }


def stream_trade(symbol: str, trade: PublicTrade) -> Payload:
    moment = ms(trade.ts_ns)
    return {
        "e": "trade",
        "E": moment,
        "s": symbol,
        "t": trade.trade_id,
        "p": number(trade.price),
        "q": number(trade.size),
        "T": moment,
        "m": trade.taker_side is Side.SELL,
        "M": True,
    }


def rest_kline(bar: Bar, width_ns: int) -> list[Any]:
    return [
        ms(bar.open_ns),
        number(bar.open),
        number(bar.high),
        number(bar.low),
        number(bar.close),
        number(bar.volume),
        ms(bar.open_ns + width_ns) - 1,
        number(bar.quote_volume),
        bar.trade_count,
        number(bar.taker_buy_volume),
        number(bar.taker_buy_quote_volume),
        "0",
    ]


def stream_kline(symbol: str, interval: str, bar: Bar, width_ns: int, now_ns: int, *, closed: bool) -> Payload:
    return {
        "e": "kline",
        "E": ms(now_ns),
        "s": symbol,
        "k": {
            "t": ms(bar.open_ns),
            "T": ms(bar.open_ns + width_ns) - 1,
            "s": symbol,
            "i": interval,
            "f": bar.first_trade_id,
            "L": bar.last_trade_id,
            "o": number(bar.open),
            "c": number(bar.close),
            "h": number(bar.high),
            "l": number(bar.low),
            "v": number(bar.volume),
            "n": bar.trade_count,
            "x": closed,
            "q": number(bar.quote_volume),
            "V": number(bar.taker_buy_volume),
            "Q": number(bar.taker_buy_quote_volume),
            "B": "0",
        },
    }


def book_levels(market: Market, count: int) -> Payload:
    """The best levels of a book with the number of its last update; a followed book in its recorded text."""
    if market.followed is not None:
        bids, asks = market.followed.bids.levels()[:count], market.followed.asks.levels()[:count]
        return {"lastUpdateId": market.followed.sequence, "bids": bids, "asks": asks}
    book = market.book
    return {"lastUpdateId": book.update_id, "bids": levels(book.bids.top(count)), "asks": levels(book.asks.top(count))}


def book_top(market: Market) -> tuple[str, str, str, str]:
    """Best bid price and size, best ask price and size; zeros for an empty side."""
    bid, ask = market.book.bids.top(1), market.book.asks.top(1)
    bid_price, bid_size = bid[0] if bid else (None, None)
    ask_price, ask_size = ask[0] if ask else (None, None)
    return number(bid_price), number(bid_size), number(ask_price), number(ask_size)


def day_ticker(market: Market, now_ns: int, *, mini: bool) -> Payload | None:
    """REST's 24 h statistics; None before there is any."""
    day = market.candles.day(now_ns)
    if day is None:
        return None
    body: Payload = {
        "symbol": market.instrument.native_symbol,
        "openPrice": number(day.open),
        "highPrice": number(day.high),
        "lowPrice": number(day.low),
        "lastPrice": number(day.close),
        "volume": number(day.volume),
        "quoteVolume": number(day.quote_volume),
        "openTime": ms(day.open_ns),
        "closeTime": ms(now_ns),
        "firstId": day.first_trade_id,
        "lastId": day.last_trade_id,
        "count": day.trade_count,
    }
    if mini:
        return body
    bid, bid_size, ask, ask_size = book_top(market)
    last = market.tape.last(1)
    change = day.close - day.open
    return body | {
        "priceChange": number(change),
        "priceChangePercent": f"{change / day.open * 100:.3f}",
        "weightedAvgPrice": number(day.quote_volume / day.volume if day.volume else None),
        "prevClosePrice": number(day.open),
        "lastQty": number(last[0].size if last else None),
        "bidPrice": bid,
        "bidQty": bid_size,
        "askPrice": ask,
        "askQty": ask_size,
    }


_TICKER_FIELDS = {
    "s": "symbol",
    "p": "priceChange",
    "P": "priceChangePercent",
    "w": "weightedAvgPrice",
    "x": "prevClosePrice",
    "c": "lastPrice",
    "Q": "lastQty",
    "b": "bidPrice",
    "B": "bidQty",
    "a": "askPrice",
    "A": "askQty",
    "o": "openPrice",
    "h": "highPrice",
    "l": "lowPrice",
    "v": "volume",
    "q": "quoteVolume",
    "O": "openTime",
    "C": "closeTime",
    "F": "firstId",
    "L": "lastId",
    "n": "count",
}
_MINI_FIELDS = ("s", "c", "o", "h", "l", "v", "q")


def stream_ticker(market: Market, now_ns: int, *, mini: bool) -> Payload | None:
    statistics = day_ticker(market, now_ns, mini=False)
    if statistics is None:
        return None
    fields = _MINI_FIELDS if mini else tuple(_TICKER_FIELDS)
    body: Payload = {"e": "24hrMiniTicker" if mini else "24hrTicker", "E": ms(now_ns)}
    return body | {short: statistics[_TICKER_FIELDS[short]] for short in fields}
