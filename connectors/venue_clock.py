"""What time it is at the venue, and how wrong that may be.

The offset is measured against the monotonic clock, so a step of the host's wall clock changes nothing. Each round trip
gives the venue's time at some instant between sending and receiving, hence an error of at most half the round trip. The best
recent sample counts, and its error grows with age, because quartz drifts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from common_models.timestamps import NS_PER_MS, NS_PER_S
from connectors.errors import TransientError
from runtime.clock import monotonic_s, now_ns

DRIFT = 100e-6
"""Seconds of error gained per second of age: twice what a cheap crystal does."""
SAMPLES = 16


class VenueClock:
    """Offset and error bound of one venue's clock. Before the first sample the host's clock stands in, with no bound."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float, float]] = deque(maxlen=SAMPLES)
        self._best: tuple[float, float, float] | None = None  # (venue minus monotonic, half round trip, when), seconds
        self.refusals = 0

    @property
    def known(self) -> bool:
        return self._best is not None

    def now_ns(self) -> int:
        """The venue's time, UTC nanoseconds."""
        if self._best is None:
            return now_ns()
        return int((self._best[0] + monotonic_s()) * NS_PER_S)

    def now_ms(self) -> int:
        """The venue's time, UTC milliseconds rounded down: the time stamp of a signed request."""
        return self.now_ns() // NS_PER_MS

    @property
    def offset_ns(self) -> int:
        """Venue minus host wall clock: positive when the host is behind."""
        return self.now_ns() - now_ns()

    @property
    def bound_s(self) -> float:
        """The largest error of `now_ns` that honest measurements allow; infinite when nothing was measured."""
        if self._best is None:
            return float("inf")
        return _bound_s(self._best, monotonic_s())

    def observe(self, sent_s: float, venue_ns: int, received_s: float) -> None:
        """Take in one round trip: our monotonic seconds before and after, and the venue's time in between."""
        half_s = (received_s - sent_s) / 2
        self._samples.append((venue_ns / NS_PER_S - (sent_s + half_s), half_s, received_s))
        now_s = received_s
        self._best = min(self._samples, key=lambda sample: _bound_s(sample, now_s))

    def forget(self) -> None:
        """The venue refused our time (clock stepped there, or this machine slept): only new samples count."""
        self.refusals += 1
        self._samples.clear()

    async def measure(self, server_time_ns: Callable[[], Awaitable[int]], rounds: int = 3) -> None:
        """Ask the venue `rounds` times; raises TransientError only when no round got an answer."""
        failure: TransientError | None = None
        answered = False
        for _ in range(rounds):
            sent_s = monotonic_s()
            try:
                venue_ns = await server_time_ns()
            except TransientError as error:
                failure = error
                continue
            self.observe(sent_s, venue_ns, monotonic_s())
            answered = True
        if not answered and failure is not None:
            raise failure


def _bound_s(sample: tuple[float, float, float], now_s: float) -> float:
    return sample[1] + (now_s - sample[2]) * DRIFT
