"""Public market data: what an exchange tells everyone."""

from __future__ import annotations

from decimal import Decimal
from typing import Generic

from typing_extensions import TypeVar

from common_models.base import Int64, MarketEvent, Number, Side

Level = tuple[Decimal, Decimal]
"""(price in quote per base, size in base)."""

Levels = TypeVar("Levels", default=tuple[Level, ...])
"""The side of a book: decoded levels, or already encoded JSON (`msgspec.Raw`) on the way to the bus."""


class Ticker(MarketEvent, Generic[Number], frozen=True, kw_only=True, tag="ticker"):
    """Best bid and offer. Prices in quote currency per one base unit, sizes in base currency.

    `sequence` is the venue's book update number where it sends one.
    """

    bid_price: Number
    bid_size: Number
    ask_price: Number
    ask_size: Number
    crossed: bool  # bid at or above ask: published, flagged, never tradable
    sequence: Int64 | None = None


class DayStats(MarketEvent, Generic[Number], frozen=True, kw_only=True, tag="daystats"):
    """Rolling 24 hours of one symbol.

    `volume` is in base, `quote_volume` in quote currency; `change_percent` is percent (1.5 is 1.5 %) and may be negative.
    """

    open: Number
    high: Number
    low: Number
    last: Number
    volume: Number
    quote_volume: Number
    change_percent: Number
    trade_count: Int64 | None = None


class Trade(MarketEvent, Generic[Number], frozen=True, kw_only=True, tag="trade"):
    """One match on the exchange. `side` is the taker's, `size` in base currency.

    `trade_id` is the venue's; on venues where it counts up by one per symbol a jump means missed trades.
    """

    trade_id: str
    side: Side
    price: Number
    size: Number


class AggregateTrade(Trade[Number], Generic[Number], frozen=True, kw_only=True, tag="aggregate"):
    """All matches of one taker order at one price. `trade_id` is the aggregate's own number, not that of a trade.

    `first_trade_id` and `last_trade_id` are the trades that it joins.
    """

    first_trade_id: str
    last_trade_id: str


class OrderBook(MarketEvent, Generic[Levels], frozen=True, kw_only=True, tag="book"):
    """The best levels of both sides, always a full snapshot, best price first.

    An invalid book has no levels: something was missed, and nobody may trade on it until the next valid one.
    `sequence` is the venue's number of the last update in it.
    """

    sequence: Int64
    valid: bool
    crossed: bool
    bids: Levels
    asks: Levels


class Candle(MarketEvent, Generic[Number], frozen=True, kw_only=True, tag="candle"):
    """Open, high, low, close of one interval; `open_ns` inclusive to `close_ns` exclusive, UTC nanoseconds.

    `closed` is False while the interval still runs: such a candle changes and must not feed an indicator.
    `volume` is in base, `quote_volume` in quote currency.
    """

    timeframe: str
    open_ns: Int64
    close_ns: Int64
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number
    quote_volume: Number
    trade_count: Int64 | None
    closed: bool


class FundingRate(MarketEvent, Generic[Number], frozen=True, kw_only=True, tag="funding"):
    """Funding of a perpetual. Rates are fractions per interval (0.0001 is 0.01 %), prices in quote per base."""

    rate: Number
    next_funding_ns: Int64 | None
    mark_price: Number | None = None
    index_price: Number | None = None


class MarketMetrics(MarketEvent, Generic[Number], frozen=True, kw_only=True, tag="market_metrics"):
    """Figures about an asset from a data service: supply in units of the asset, money in `currency`."""

    currency: str
    price: Number
    market_cap: Number | None = None
    volume_24h: Number | None = None
    circulating_supply: Number | None = None
    total_supply: Number | None = None
    max_supply: Number | None = None
    rank: Int64 | None = None


class OnchainMetrics(MarketEvent, Generic[Number], frozen=True, kw_only=True, tag="onchain_metrics"):
    """Figures about a blockchain. Fees in the chain's smallest unit per virtual byte, hash rate in hashes per second."""

    chain: str
    block_height: Int64
    transactions_24h: Int64 | None = None
    mempool_transactions: Int64 | None = None
    fee_fast: Number | None = None
    fee_normal: Number | None = None
    hash_rate: Number | None = None
    difficulty: Number | None = None
