"""Relative strength index, after Wilder."""

from __future__ import annotations

from strategy.indicators.rolling import checked_period, finite


class RSI:
    """Wilder's relative strength index in 0..100; None until `period` changes, thus `period` + 1 values, were seen.

    The averages of gains and losses begin with the means of the first `period` changes. Without any movement the value is 0, as
    TA-Lib has it, although nothing was sold: `flat` tells the two apart.
    """

    __slots__ = ("_changes", "_gain", "_last", "_loss", "period", "value")

    def __init__(self, period: int = 14) -> None:
        self.period = checked_period(period)
        self._last: float | None = None
        self._changes = 0
        self._gain = 0.0  # a plain sum until there are `period` changes, Wilder's average from then on
        self._loss = 0.0
        self.value: float | None = None

    @property
    def flat(self) -> bool:
        """Nothing moved in all that the averages still remember."""
        return not self._gain and not self._loss

    def update(self, value: float) -> float | None:
        """Take the next value in; raises ValueError unless it is finite."""
        finite(value)
        if self._last is not None:
            self._gain, self._loss = self._averages_with(value - self._last)
            self._changes += 1
            if self._changes >= self.period:
                self.value = _index(self._gain, self._loss)
        self._last = value
        return self.value

    def peek(self, value: float) -> float | None:
        """What `update(value)` would return, without taking it in."""
        finite(value)
        if self._last is None or self._changes + 1 < self.period:
            return None
        return _index(*self._averages_with(value - self._last))

    def _averages_with(self, change: float) -> tuple[float, float]:
        gain, loss = max(change, 0.0), max(-change, 0.0)
        if self._changes >= self.period:
            rest = self.period - 1
            return (self._gain * rest + gain) / self.period, (self._loss * rest + loss) / self.period
        divisor = self.period if self._changes == self.period - 1 else 1
        return (self._gain + gain) / divisor, (self._loss + loss) / divisor


def _index(gain: float, loss: float) -> float:
    both = gain + loss
    return 100.0 * (gain / both) if both else 0.0
