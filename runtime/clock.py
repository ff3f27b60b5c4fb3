"""The one clock. Wall time in UTC nanoseconds for records, the monotonic clock for intervals."""

from __future__ import annotations

import time


def now_ns() -> int:
    """Wall clock, UTC nanoseconds since 1970: the only call of time.time_ns()."""
    return time.time_ns()


def monotonic_ns() -> int:
    """Nanoseconds on the monotonic clock: for durations that are measured."""
    return time.monotonic_ns()


def monotonic_s() -> float:
    """Seconds on the monotonic clock: for waits and ages, never for records."""
    return time.monotonic()
