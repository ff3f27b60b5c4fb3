"""Waiting longer after each failure, never in step with others."""

from __future__ import annotations

import random

from runtime.clock import monotonic_s


class Backoff:
    """Growing waits with full jitter between `first_s` and `cap_s`, back to the start after `stable_s` without a failure."""

    def __init__(self, first_s: float = 0.25, cap_s: float = 30.0, stable_s: float = 60.0, seed: int | None = None) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._stable_s = stable_s
        self._failures = 0
        self._last_failure_s = 0.0
        # a generator of its own costs a system call; only tests need to know what it gives
        self._random = random.random if seed is None else random.Random(seed).random  # noqa: S311 jitter, not a secret

    @property
    def failures(self) -> int:
        """Failures in a row since the last stable period."""
        return self._failures

    def next_s(self) -> float:
        """Seconds to wait now, after one more failure."""
        now_s = monotonic_s()
        if self._failures and now_s - self._last_failure_s > self._stable_s:
            self._failures = 0
        self._last_failure_s = now_s
        ceiling_s = min(self._cap_s, self._first_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return ceiling_s / 2 + self._random() * ceiling_s / 2

    def reset(self) -> None:
        """Something worked for certain: start small again."""
        self._failures = 0
