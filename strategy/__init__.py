"""All that a plugin author imports: the contract, the events, the indicators."""

from __future__ import annotations

from common_models import (
    AggregateTrade,
    Candle,
    Direction,
    MarketEvent,
    OrderBook,
    Side,
    Signal,
    Ticker,
    Trade,
)
from strategy.crossing import CrossPlugin, CrossSettings
from strategy.indicators import EMA, RSI, SMA, Bands, BollingerBands
from strategy.plugin import Market, Plugin, PluginError, PluginSettings, Signals, make_plugin
from strategy.price_plugin import Opinion, PricePlugin, PriceSettings

__all__ = [
    "EMA",
    "RSI",
    "SMA",
    "AggregateTrade",
    "Bands",
    "BollingerBands",
    "Candle",
    "CrossPlugin",
    "CrossSettings",
    "Direction",
    "Market",
    "MarketEvent",
    "Opinion",
    "OrderBook",
    "Plugin",
    "PluginError",
    "PluginSettings",
    "PricePlugin",
    "PriceSettings",
    "Side",
    "Signal",
    "Signals",
    "Ticker",
    "Trade",
    "make_plugin",
]
