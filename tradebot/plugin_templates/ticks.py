"""MyStrategy: buy when a quote breaks above all of the last ones, sell when it breaks below.

A new version of the file goes on with the quotes that the old one had seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from pydantic import Field

from strategy import Direction, Market, Plugin, PluginSettings, Signal, Ticker


class MyStrategySettings(PluginSettings):
    """`window` is how many quotes are looked back on."""

    window: int = Field(200, ge=2, le=100_000)


class MyStrategy(Plugin[MyStrategySettings]):
    name = "my_strategy"
    settings_type = MyStrategySettings

    def __init__(self, settings: MyStrategySettings, market: Market) -> None:
        super().__init__(settings, market)
        self.prices: deque[float] = deque(maxlen=settings.window)

    @property
    def warm_up_events(self) -> int:
        return self.settings.window

    def on_ticker(self, ticker: Ticker) -> Iterator[Signal]:
        price = float(ticker.bid_price + ticker.ask_price) / 2
        direction = self._opinion(price)
        self.prices.append(price)
        if direction is not self.direction:
            yield self.signal(ticker, direction, reason=f"{price:.8g} breaks out of the last {self.settings.window} quotes")

    def _opinion(self, price: float) -> Direction:
        if len(self.prices) < self.settings.window:
            return self.direction
        if price > max(self.prices):
            return Direction.BUY
        if price < min(self.prices):
            return Direction.SELL
        return self.direction

    def on_save(self) -> object:
        return list(self.prices)

    def on_load(self, state: object) -> None:
        if isinstance(state, list):
            self.prices = deque(state, maxlen=self.settings.window)

    def heartbeat(self) -> str:
        return f"{len(self.prices)} of {self.settings.window} quotes"


PLUGIN = MyStrategy
