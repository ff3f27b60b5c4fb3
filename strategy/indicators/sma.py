"""Simple moving average."""

from __future__ import annotations

from strategy.indicators.rolling import RollingSum, finite


class SMA:
    """The mean of the last `period` values; None until there are as many."""

    __slots__ = ("_window", "period", "value")

    def __init__(self, period: int) -> None:
        self._window = RollingSum(period)
        self.period = period
        self.value: float | None = None

    def update(self, value: float) -> float | None:
        """Take the next value in; raises ValueError unless it is finite."""
        self._window.push(value)
        if self._window.full:
            self.value = self._window.total() / self.period
        return self.value

    def peek(self, value: float) -> float | None:
        """What `update(value)` would return, without taking it in: the average with an unfinished bar."""
        return self._window.total_with(finite(value)) / self.period if self._window.full_with_one_more() else None
