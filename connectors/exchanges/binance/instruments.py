"""Binance spot's list of markets to `Instrument`.

Source: binance-spot-api-docs, rest-api.md (exchangeInfo) and filters.md, read 2026-07-21.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from common_models import Instrument, InstrumentStatus
from common_models.decimals import exact

_STATUS = {"TRADING": InstrumentStatus.TRADING, "CANCEL_ONLY": InstrumentStatus.CANCEL_ONLY}
"""Every other status, known or new, means that nothing may be placed or cancelled: halted."""


class Filter(msgspec.Struct, gc=False):
    """One of a market's filters; which fields are set depends on its type."""

    filterType: str  # noqa: N815 the venue's names
    minPrice: str = "0"  # noqa: N815
    maxPrice: str = "0"  # noqa: N815
    tickSize: str = "0"  # noqa: N815
    minQty: str = "0"  # noqa: N815
    maxQty: str = "0"  # noqa: N815
    stepSize: str = "0"  # noqa: N815
    minNotional: str = "0"  # noqa: N815
    maxNotional: str = "0"  # noqa: N815


class Market(msgspec.Struct, gc=False):
    symbol: str
    status: str
    baseAsset: str  # noqa: N815
    quoteAsset: str  # noqa: N815
    filters: list[Filter]
    orderTypes: list[str] = []  # noqa: N815


class ExchangeInfo(msgspec.Struct):
    """Body of GET /api/v3/exchangeInfo, as far as we use it."""

    symbols: list[Market]


def instrument(exchange: str, market: Market, ts_recv_ns: int) -> Instrument:
    """The rules of one market; raises ValueError when a number is malformed. A bound of zero means no bound."""
    by_type = {entry.filterType: entry for entry in market.filters}
    nothing = Filter("")
    price = by_type.get("PRICE_FILTER", nothing)
    lot = by_type.get("LOT_SIZE", nothing)
    market_lot = by_type.get("MARKET_LOT_SIZE", nothing)
    notional = by_type.get("NOTIONAL") or by_type.get("MIN_NOTIONAL", nothing)
    return Instrument(
        exchange=exchange,
        symbol=f"{market.baseAsset}/{market.quoteAsset}",
        ts_event_ns=None,
        ts_recv_ns=ts_recv_ns,
        native_symbol=market.symbol,
        base=market.baseAsset,
        quote=market.quoteAsset,
        status=_STATUS.get(market.status, InstrumentStatus.HALTED),
        price_tick=exact(price.tickSize),
        quantity_step=exact(lot.stepSize),
        min_quantity=exact(lot.minQty),
        max_quantity=_bound(lot.maxQty),
        market_quantity_step=_bound(market_lot.stepSize),
        max_market_quantity=_bound(market_lot.maxQty),
        min_notional=exact(notional.minNotional),
        max_notional=_bound(notional.maxNotional),
        min_price=_bound(price.minPrice),
        max_price=_bound(price.maxPrice),
        order_types=tuple(market.orderTypes),
    )


def _bound(text: str) -> Decimal | None:
    return exact(text) or None
