"""MyStrategy: buy while the price is above where it stood at the start, sell while it is below."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from strategy import Direction, Market, Plugin, PluginSettings, Signal, Ticker


class MyStrategy(Plugin[PluginSettings]):
    name = "my_strategy"
    settings_type = PluginSettings

    def __init__(self, settings: PluginSettings, market: Market) -> None:
        super().__init__(settings, market)
        self.start: Decimal | None = None

    def on_ticker(self, ticker: Ticker) -> Iterator[Signal]:
        price = (ticker.bid_price + ticker.ask_price) / 2
        if self.start is None:
            self.start = price
        direction = self.direction
        if price > self.start:
            direction = Direction.BUY
        elif price < self.start:
            direction = Direction.SELL
        if direction is not self.direction:  # a signal stands until the next one: say changes only
            yield self.signal(ticker, direction, reason=f"{price} against {self.start} at the start")


PLUGIN = MyStrategy
