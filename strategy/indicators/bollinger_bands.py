"""Bollinger bands: a moving average and its standard deviation either side."""

from __future__ import annotations

import math
from typing import NamedTuple

from strategy.indicators.rolling import RollingSum, checked_period, finite


class Bands(NamedTuple):
    lower: float
    middle: float
    upper: float


class BollingerBands:
    """Mean of the last `period` values, plus and minus `deviations` population standard deviations; None until there are as many.

    The variance comes from sums of distances to an origin near the values, and the origin follows them once per period: the
    textbook mean of squares less square of the mean loses all its digits when a price is large and moves little.
    """

    __slots__ = ("_distances", "_origin", "_since_centred", "_squares", "deviations", "period", "value")

    def __init__(self, period: int = 20, deviations: float = 2.0) -> None:
        self.period = checked_period(period, least=2)
        self.deviations = finite(deviations)
        self._origin = 0.0
        self._since_centred = 0
        self._distances = RollingSum(period)
        self._squares = RollingSum(period)
        self.value: Bands | None = None

    def update(self, value: float) -> Bands | None:
        """Take the next value in; raises ValueError unless it is finite."""
        finite(value)
        if self._since_centred % self.period == 0:
            self._centre_on(value)
        self._since_centred += 1
        distance = value - self._origin
        self._distances.push(distance)
        self._squares.push(distance * distance)
        if self._distances.full:
            self.value = self._bands(self._distances.total(), self._squares.total())
        return self.value

    def peek(self, value: float) -> Bands | None:
        """What `update(value)` would return, without taking it in."""
        if not self._distances.full_with_one_more():
            return None
        distance = finite(value) - self._origin
        return self._bands(self._distances.total_with(distance), self._squares.total_with(distance * distance))

    def _bands(self, distances: float, squares: float) -> Bands:
        mean = distances / self.period
        spread = self.deviations * math.sqrt(max(squares / self.period - mean * mean, 0.0))
        middle = self._origin + mean
        return Bands(middle - spread, middle, middle + spread)

    def _centre_on(self, origin: float) -> None:
        values = [self._origin + distance for distance in self._distances]
        self._origin = origin
        self._distances = RollingSum(self.period)
        self._squares = RollingSum(self.period)
        for value in values:
            self._distances.push(value - origin)
            self._squares.push((value - origin) ** 2)
