"""Relative strength index: buy what is over-sold, sell what is over-bought, no opinion in between."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from strategy import RSI, Direction, Market, Opinion, PricePlugin, PriceSettings


class RsiSettings(PriceSettings):
    """`oversold` and `overbought` are values of the index, 0..100."""

    period: int = Field(14, ge=2, le=10_000)
    oversold: float = Field(30.0, gt=0, lt=100)
    overbought: float = Field(70.0, gt=0, lt=100)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.oversold >= self.overbought:
            raise ValueError(f"oversold {self.oversold:g} must be below overbought {self.overbought:g}")
        return self


class RsiReversal(PricePlugin[RsiSettings]):
    name = "rsi"
    settings_type = RsiSettings

    def __init__(self, settings: RsiSettings, market: Market) -> None:
        super().__init__(settings, market)
        self._rsi = RSI(settings.period)

    @property
    def prices_needed(self) -> int:
        return self.settings.period + 1

    def take(self, price: float) -> Opinion | None:
        return self._judge(self._rsi.update(price))

    def look(self, price: float) -> Opinion | None:
        return self._judge(self._rsi.peek(price))

    def _judge(self, value: float | None) -> Opinion | None:
        if value is None:
            return None
        low, high = self.settings.oversold, self.settings.overbought
        if self._rsi.flat:  # a market that stands still reads 0 and is not over-sold
            return Opinion(Direction.HOLD, "nothing moves")
        if value <= low:
            return Opinion(Direction.BUY, "RSI {:.1f} at or below {:g}", value, low, strength=0.5 + 0.5 * (low - value) / low)
        if value >= high:
            strength = 0.5 + 0.5 * (value - high) / (100 - high)
            return Opinion(Direction.SELL, "RSI {:.1f} at or above {:g}", value, high, strength=strength)
        return Opinion(Direction.HOLD, "RSI {:.1f} between {:g} and {:g}", value, low, high)


PLUGIN = RsiReversal
