"""Incremental indicators: one float in, one value out, constant work per value, the same numbers as TA-Lib."""

from __future__ import annotations

from strategy.indicators.bollinger_bands import Bands, BollingerBands
from strategy.indicators.ema import EMA
from strategy.indicators.rsi import RSI
from strategy.indicators.sma import SMA

__all__ = ["EMA", "RSI", "SMA", "Bands", "BollingerBands"]
