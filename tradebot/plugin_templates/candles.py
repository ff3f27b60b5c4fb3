"""MyStrategy: buy when the price has risen for some candles in a row, sell when it has fallen for as many."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from strategy import Candle, Direction, Market, Plugin, PluginSettings, Signal


class MyStrategySettings(PluginSettings):
    """`lookback` is how many candles in a row must rise (or fall)."""

    lookback: int = Field(3, ge=1, le=1000)


class MyStrategy(Plugin[MyStrategySettings]):
    name = "my_strategy"
    settings_type = MyStrategySettings

    def __init__(self, settings: MyStrategySettings, market: Market) -> None:
        super().__init__(settings, market)
        self.run = 0  # candles in a row that rose (above 0) or fell (below 0)

    @property
    def warm_up(self) -> int:
        return self.settings.lookback

    def on_candle(self, candle: Candle) -> Iterator[Signal]:
        if candle.close > candle.open:
            self.run = max(self.run, 0) + 1
        elif candle.close < candle.open:
            self.run = min(self.run, 0) - 1
        else:
            self.run = 0
        direction = self._opinion()
        if direction is not self.direction:
            yield self.signal(candle, direction, reason=f"{abs(self.run)} candles in a row")

    def _opinion(self) -> Direction:
        if self.run >= self.settings.lookback:
            return Direction.BUY
        if self.run <= -self.settings.lookback:
            return Direction.SELL
        return self.direction


PLUGIN = MyStrategy
