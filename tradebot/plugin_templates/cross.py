"""MyStrategy: buy while a fast exponential average is above a slow simple one, sell while it is below."""

from __future__ import annotations

from strategy import EMA, SMA, CrossPlugin, CrossSettings, Market


class MyStrategy(CrossPlugin[CrossSettings]):
    name = "my_strategy"
    settings_type = CrossSettings

    def __init__(self, settings: CrossSettings, market: Market) -> None:
        super().__init__(settings, market)
        self.fast = EMA(settings.fast_period)
        self.slow = SMA(settings.slow_period)


PLUGIN = MyStrategy
