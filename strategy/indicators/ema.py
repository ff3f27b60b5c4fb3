"""Exponential moving average."""

from __future__ import annotations

from strategy.indicators.rolling import RollingSum, checked_period, finite


class EMA:
    """Exponential average with weight 2 / (period + 1), begun with the mean of the first `period` values (as TA-Lib does).

    None until `period` values were seen.
    """

    __slots__ = ("_seed", "_weight", "period", "value")

    def __init__(self, period: int) -> None:
        self.period = checked_period(period)
        self._weight = 2.0 / (period + 1)
        self._seed = RollingSum(period)
        self.value: float | None = None

    def update(self, value: float) -> float | None:
        """Take the next value in; raises ValueError unless it is finite."""
        self.value = self.peek(value)
        if not self._seed.full:
            self._seed.push(value)
        return self.value

    def peek(self, value: float) -> float | None:
        """What `update(value)` would return, without taking it in."""
        finite(value)
        if self.value is not None:
            return (value - self.value) * self._weight + self.value
        return self._seed.total_with(value) / self.period if self._seed.full_with_one_more() else None
