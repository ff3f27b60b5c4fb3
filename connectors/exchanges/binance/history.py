"""What Binance spot's REST interface knows of the market: snapshots, missed trades, past candles, and whether a stream fell silent.

Source: binance-spot-api-docs, rest-api.md, read 2026-07-21. Weights are the documented ones.
"""

from __future__ import annotations

import msgspec

from common_models import Candle, Trade
from common_models.timestamps import NS_PER_MS
from connectors.exchanges.binance.channels import AggTradeChannel, CandleChannel, Channel, Hole, TickerChannel, TradeChannel
from connectors.exchanges.binance.depth import DepthChannel
from connectors.exchanges.binance.instruments import ExchangeInfo
from connectors.exchanges.binance.wire import AggTradeFrame, DepthSnapshot
from connectors.rate_budget import Lane
from connectors.rest import RestClient
from runtime.clock import now_ns

SNAPSHOT_LEVELS = 1000
SNAPSHOT_WEIGHT = 50
PAGE = 1000


class RestTrade(msgspec.Struct, gc=False):
    id: int
    price: str
    qty: str
    time: int
    isBuyerMaker: bool  # noqa: N815 the venue's name


class RestAggTrade(msgspec.Struct, gc=False):
    a: int
    p: str
    q: str
    f: int
    l: int  # noqa: E741 the venue's name
    T: int
    m: bool


class RestBookTicker(msgspec.Struct, gc=False):
    bidPrice: str  # noqa: N815
    askPrice: str  # noqa: N815


RestKline = tuple[int, str, str, str, str, str, int, str, int, str, str, str]
"""open time, open, high, low, close, volume, close time, quote volume, trades, taker base, taker quote, unused"""


class MarketHistory:
    """Public REST queries, all in the lane that yields to orders. Methods raise ExchangeError, and ValueError for bad values."""

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest

    async def exchange_info(self, natives: list[str]) -> ExchangeInfo:
        """The rules of the named markets."""
        params = {"symbols": msgspec.json.encode(natives).decode()}
        return await self._rest.get("/api/v3/exchangeInfo", params, weight=20, lane=Lane.ACCOUNT, shape=ExchangeInfo)

    async def depth(self, native: str) -> DepthSnapshot:
        """The best levels of both sides."""
        params = {"symbol": native, "limit": str(SNAPSHOT_LEVELS)}
        return await self._rest.get("/api/v3/depth", params, weight=SNAPSHOT_WEIGHT, lane=Lane.ACCOUNT, shape=DepthSnapshot)

    async def trades(self, channel: TradeChannel, first: int, last: int) -> list[Trade[str]]:
        """Up to one page of trades from id `first` on, none beyond `last`."""
        params = {"symbol": channel.native, "fromId": str(first), "limit": str(min(PAGE, last - first + 1))}
        page = await self._rest.get("/api/v3/historicalTrades", params, weight=25, shape=list[RestTrade])
        at_ns = now_ns()
        return [
            channel.trade(entry.id, entry.price, entry.qty, entry.time, entry.isBuyerMaker, at_ns)
            for entry in page
            if first <= entry.id <= last
        ]

    async def aggregate_trades(self, channel: AggTradeChannel, first: int, last: int) -> list[Trade[str]]:
        """Up to one page of aggregates from id `first` on, none beyond `last`."""
        params = {"symbol": channel.native, "fromId": str(first), "limit": str(min(PAGE, last - first + 1))}
        page = await self._rest.get("/api/v3/aggTrades", params, weight=4, shape=list[RestAggTrade])
        at_ns = now_ns()
        return [
            channel.trade(
                AggTradeFrame(entry.T, channel.native, entry.a, entry.p, entry.q, entry.f, entry.l, entry.T, entry.m), at_ns
            )
            for entry in page
            if first <= entry.a <= last
        ]

    async def candles(self, channel: CandleChannel, hole: Hole | None = None, limit: int = PAGE) -> list[Candle[str]]:
        """Closed candles of a hole, or the last `limit` closed ones; oldest first."""
        params = {"symbol": channel.native, "interval": channel.timeframe, "limit": str(limit)}
        if hole is not None:
            params |= {"startTime": str(hole.from_ns // NS_PER_MS), "endTime": str(hole.to_ns // NS_PER_MS - 1)}
        page = await self._rest.get("/api/v3/klines", params, weight=2, shape=list[RestKline])
        at_ns = now_ns()
        return [
            channel.candle((row[0], row[6]), (*row[1:6], row[7]), row[8], True, row[6], at_ns)
            for row in page
            if row[6] * NS_PER_MS < at_ns
        ]

    async def moved_on(self, channel: Channel) -> bool:
        """Whether the venue has something newer than a silent channel has shown: then the subscription is dead, not the market."""
        native = {"symbol": channel.native}
        if isinstance(channel, DepthChannel):
            snapshot = await self._rest.get("/api/v3/depth", {**native, "limit": "5"}, weight=5, shape=DepthSnapshot)
            return snapshot.lastUpdateId > channel.book.sequence
        if isinstance(channel, TickerChannel):
            quote = await self._rest.get("/api/v3/ticker/bookTicker", native, weight=2, shape=RestBookTicker)
            return (quote.bidPrice, quote.askPrice) != channel.last_quote
        newest = await self._rest.get("/api/v3/trades", {**native, "limit": "1"}, weight=25, shape=list[RestTrade])
        if not newest:
            return False
        if isinstance(channel, TradeChannel):
            return channel.last_id is None or newest[0].id > channel.last_id
        return newest[0].time * NS_PER_MS > channel.last_recv_ns
