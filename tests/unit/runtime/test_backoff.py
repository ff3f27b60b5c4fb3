from __future__ import annotations

import pytest

from runtime import backoff as module
from runtime.backoff import Backoff


def test_waits_grow_to_the_cap_and_are_jittered() -> None:
    backoff = Backoff(first_s=1.0, cap_s=8.0, seed=1)
    waits = [backoff.next_s() for _ in range(8)]
    for wait, ceiling in zip(waits, [1, 2, 4, 8, 8, 8, 8, 8], strict=True):
        assert ceiling / 2 <= wait <= ceiling
    assert len(set(waits)) == len(waits)


def test_a_stable_period_starts_small_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module, "monotonic_s", lambda: now[0])
    backoff = Backoff(first_s=1.0, cap_s=64.0, stable_s=10.0)
    for _ in range(5):
        backoff.next_s()
    now[0] = 5.0
    assert backoff.next_s() > 10.0
    now[0] = 16.0
    assert backoff.next_s() <= 1.0
