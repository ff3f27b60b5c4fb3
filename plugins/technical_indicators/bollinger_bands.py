"""Bollinger bands: buy below the lower band and sell above the upper one, until the price is back at the middle."""

from __future__ import annotations

import math
from typing import Self

from pydantic import Field, model_validator

from strategy import Bands, BollingerBands, Direction, Market, Opinion, PricePlugin, PriceSettings


class BollingerSettings(PriceSettings):
    """`deviations` is the distance of the bands from the middle in standard deviations."""

    period: int = Field(20, ge=2, le=10_000)
    deviations: float = Field(2.0, gt=0, le=10)

    @model_validator(mode="after")
    def _within_reach(self) -> Self:
        farthest = math.sqrt(self.period - 1)  # one value far off moves the deviation with it
        if self.deviations >= farthest:
            raise ValueError(f"no price of {self.period} lies {self.deviations:g} deviations off; below {farthest:.2f}, please")
        return self


class BollingerReversion(PricePlugin[BollingerSettings]):
    name = "bollinger_bands"
    settings_type = BollingerSettings

    def __init__(self, settings: BollingerSettings, market: Market) -> None:
        super().__init__(settings, market)
        self._bands = BollingerBands(settings.period, settings.deviations)

    @property
    def prices_needed(self) -> int:
        return self.settings.period

    def take(self, price: float) -> Opinion | None:
        return self._judge(price, self._bands.update(price))

    def look(self, price: float) -> Opinion | None:
        return self._judge(price, self._bands.peek(price))

    def _judge(self, price: float, bands: Bands | None) -> Opinion | None:
        if bands is None:
            return None
        if price < bands.lower:
            return Opinion(Direction.BUY, "price {:.8g} below the lower band {:.8g}", price, bands.lower)
        if price > bands.upper:
            return Opinion(Direction.SELL, "price {:.8g} above the upper band {:.8g}", price, bands.upper)
        reverted = price >= bands.middle if self.direction is Direction.BUY else price <= bands.middle
        direction = Direction.HOLD if reverted else self.direction
        return Opinion(direction, "price {:.8g} back at the middle {:.8g}", price, bands.middle)


PLUGIN = BollingerReversion
