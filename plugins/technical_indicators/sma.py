"""Simple moving averages: buy while the fast one is above the slow one, sell while it is below."""

from __future__ import annotations

from strategy import SMA, CrossPlugin, CrossSettings, Market


class SmaCross(CrossPlugin[CrossSettings]):
    name = "sma"
    settings_type = CrossSettings

    def __init__(self, settings: CrossSettings, market: Market) -> None:
        super().__init__(settings, market)
        self.fast = SMA(settings.fast_period)
        self.slow = SMA(settings.slow_period)


PLUGIN = SmaCross
