"""Exponential moving averages: buy while the fast one is above the slow one, sell while it is below."""

from __future__ import annotations

from pydantic import Field

from strategy import EMA, CrossPlugin, CrossSettings, Market


class EmaCrossSettings(CrossSettings):
    """As for every crossing, with MACD's customary periods."""

    fast_period: int = Field(12, ge=1, le=10_000)
    slow_period: int = Field(26, ge=2, le=10_000)


class EmaCross(CrossPlugin[EmaCrossSettings]):
    name = "ema"
    settings_type = EmaCrossSettings

    def __init__(self, settings: EmaCrossSettings, market: Market) -> None:
        super().__init__(settings, market)
        self.fast = EMA(settings.fast_period)
        self.slow = EMA(settings.slow_period)


PLUGIN = EmaCross
