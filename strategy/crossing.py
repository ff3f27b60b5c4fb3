"""Two averages of one price, a fast and a slow one, and which of them is above."""

from __future__ import annotations

from typing import Protocol, Self, TypeVar

from pydantic import Field, model_validator

from common_models import Direction
from strategy.price_plugin import Opinion, PricePlugin, PriceSettings


class Average(Protocol):
    """What a moving average must offer to be crossed with another."""

    def update(self, value: float) -> float | None: ...

    def peek(self, value: float) -> float | None: ...


class CrossSettings(PriceSettings):
    """Periods of both averages in candles (or ticks, or trades, as `source` says).

    `band_percent` is how far, in percent of the slow average, the fast one must have passed it before the opinion turns, so that
    averages that lie on each other do not turn it with every tick.
    """

    fast_period: int = Field(9, ge=1, le=10_000)
    slow_period: int = Field(21, ge=2, le=10_000)
    band_percent: float = Field(0.0, ge=0, lt=100)

    @model_validator(mode="after")
    def _fast_is_shorter(self) -> Self:
        if self.fast_period >= self.slow_period:
            raise ValueError(f"fast_period {self.fast_period} must be below slow_period {self.slow_period}")
        return self


Settings = TypeVar("Settings", bound=CrossSettings)


class CrossPlugin(PricePlugin[Settings]):
    """Buy while the fast average is above the slow one, sell while it is below. Subclasses set both averages."""

    fast: Average
    slow: Average

    @property
    def prices_needed(self) -> int:
        return self.settings.slow_period

    def take(self, price: float) -> Opinion | None:
        return self._judge(self.fast.update(price), self.slow.update(price))

    def look(self, price: float) -> Opinion | None:
        return self._judge(self.fast.peek(price), self.slow.peek(price))

    def _judge(self, fast: float | None, slow: float | None) -> Opinion | None:
        if fast is None or slow is None:
            return None
        band = abs(slow) * self.settings.band_percent / 100
        direction = self.direction
        if fast > slow + band:
            direction = Direction.BUY
        elif fast < slow - band:
            direction = Direction.SELL
        return Opinion(direction, "fast average {:.8g}, slow average {:.8g}", fast, slow)
