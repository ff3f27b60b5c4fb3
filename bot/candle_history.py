"""Closed candles of one market in order, without holes and without repeats, from wherever they come and in any order."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from enum import Enum

from common_models import Candle


class Change(Enum):
    """What new candles did to the unbroken run that ends with the newest candle."""

    NONE = "none"  # known already, older than what is kept, or before a hole
    APPENDED = "appended"  # the run grew by exactly one candle at its end
    REBUILT = "rebuilt"  # anything else: whoever follows the run has to read it anew


class CandleHistory:
    """The newest `keep` closed candles of one market and timeframe.

    Indicators must not step over a hole, so `run` is what follows the last one. A candle that arrives late and fills the hole
    makes the run longer again.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._candles: list[Candle] = []
        self._run_start = 0
        self.holes = 0

    @property
    def run(self) -> list[Candle]:
        """The unbroken run of candles up to the newest, oldest first."""
        return self._candles[self._run_start :]

    @property
    def run_length(self) -> int:
        return len(self._candles) - self._run_start

    @property
    def newest(self) -> Candle | None:
        return self._candles[-1] if self._candles else None

    def keep_at_least(self, count: int) -> None:
        """Keep more candles from now on; those that were cut already have to be told again."""
        self._keep = max(self._keep, count)

    def add(self, candle: Candle) -> Change:
        """Take in one candle; one that still runs is none."""
        newest = self.newest
        if not candle.closed:
            return Change.NONE
        if newest is None or candle.open_ns == newest.close_ns:
            self._candles.append(candle)
            if len(self._candles) > 2 * self._keep:  # cut seldom, so that appending stays cheap
                self._cut()
            return Change.APPENDED
        return self.extend((candle,))

    def extend(self, candles: Iterable[Candle]) -> Change:
        """Take in any number of candles in any order."""
        known = {candle.open_ns for candle in self._candles}
        fresh = {candle.open_ns: candle for candle in candles if candle.closed and candle.open_ns not in known}
        if not fresh:
            return Change.NONE
        before = (self.run_length, self.newest)
        for candle in fresh.values():
            insort(self._candles, candle, key=_open_ns)
        self._cut()
        self._run_start = self._start_of_run()
        self.holes += before[1] is not None and self.newest is not before[1] and self.run_length < before[0]
        return Change.NONE if before == (self.run_length, self.newest) else Change.REBUILT

    def _cut(self) -> None:
        excess = max(len(self._candles) - self._keep, 0)
        del self._candles[:excess]
        self._run_start = max(self._run_start - excess, 0)

    def _start_of_run(self) -> int:
        start = max(len(self._candles) - 1, 0)
        while start and self._candles[start - 1].close_ns == self._candles[start].open_ns:
            start -= 1
        return start


def _open_ns(candle: Candle) -> int:
    return candle.open_ns
