"""MyStrategy: buy when much more is bid than offered at the best levels, sell when much less is, hold in between."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from strategy import Direction, OrderBook, Plugin, PluginSettings, Signal


class MyStrategySettings(PluginSettings):
    """`levels` are looked at on each side; `share` is the part of their size, 0.5..1, that one side must have to count as heavy."""

    levels: int = Field(5, ge=1, le=100)
    share: float = Field(0.7, gt=0.5, lt=1)


class MyStrategy(Plugin[MyStrategySettings]):
    name = "my_strategy"
    settings_type = MyStrategySettings

    def on_book(self, book: OrderBook) -> Iterator[Signal]:
        bid = float(sum(size for _, size in book.bids[: self.settings.levels]))
        ask = float(sum(size for _, size in book.asks[: self.settings.levels]))
        if not bid + ask:
            return
        share = bid / (bid + ask)
        direction = Direction.HOLD
        if share >= self.settings.share:
            direction = Direction.BUY
        elif share <= 1 - self.settings.share:
            direction = Direction.SELL
        if direction is not self.direction:
            strength = abs(2 * share - 1)
            yield self.signal(book, direction, strength=strength, reason=f"{share:.0%} of the size is bid")


PLUGIN = MyStrategy
