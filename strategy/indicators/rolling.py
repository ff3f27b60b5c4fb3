"""A sum over the last values that does not drift, however long it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator


def checked_period(period: int, least: int = 1) -> int:
    """Return `period`, the number of values that an indicator looks back on; raises ValueError below `least`."""
    if isinstance(period, bool) or not isinstance(period, int) or period < least:
        raise ValueError(f"a period is a whole number of at least {least}, not {period!r}")
    return period


def finite(value: float) -> float:
    """Return `value`; raises ValueError for NaN and infinities, which would stay in an average for ever."""
    if not math.isfinite(value):
        raise ValueError(f"an indicator takes finite numbers, not {value!r}")
    return value


class RollingSum:
    """The sum of the last `size` values, in constant time.

    A plain running sum keeps the rounding error of everything that ever passed through it, and one large value leaves its error
    behind for good. Neumaier's compensation carries what each addition lost, so that the result is as good as a fresh sum.
    """

    __slots__ = ("_lost", "_next", "_sum", "_values", "size")

    def __init__(self, size: int) -> None:
        self.size = checked_period(size)
        self._values: list[float] = []
        self._next = 0
        self._sum = 0.0
        self._lost = 0.0

    @property
    def full(self) -> bool:
        return len(self._values) == self.size

    def push(self, value: float) -> None:
        """Take `value` in and, when full, the oldest one out; raises ValueError unless it is finite."""
        finite(value)
        if len(self._values) < self.size:
            self._values.append(value)
        else:
            self._add(-self._values[self._next])
            self._values[self._next] = value
            self._next = (self._next + 1) % self.size
        self._add(value)

    def total(self) -> float:
        """The sum of what is inside."""
        return self._sum + self._lost

    def total_with(self, value: float) -> float:
        """The sum as it would be after `push(value)`."""
        oldest = self._values[self._next] if self.full else 0.0
        return self._sum - oldest + value + self._lost

    def full_with_one_more(self) -> bool:
        """Whether `push` would leave the window full."""
        return len(self._values) >= self.size - 1

    def __iter__(self) -> Iterator[float]:
        """The values, oldest first."""
        yield from self._values[self._next :]
        yield from self._values[: self._next]

    def _add(self, value: float) -> None:
        total = self._sum + value
        if abs(self._sum) >= abs(value):
            self._lost += (self._sum - total) + value
        else:
            self._lost += (value - total) + self._sum
        self._sum = total
