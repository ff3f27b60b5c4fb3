"""Lanes, fixed windows, the venue's own count, and silence when it asks for it."""

from __future__ import annotations

import pytest

from connectors import rate_budget, venue_clock
from connectors.errors import RateLimited, TransientError
from connectors.rate_budget import Lane, RateBudget
from connectors.venue_clock import VenueClock


class Time:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.wall_s = 1_800_000_000.0
        self.monotonic_s = 100.0

    def passes(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    for module in (rate_budget, venue_clock):
        monkeypatch.setattr(module, "now_ns", lambda: int(time.wall_s * 1e9))
        monkeypatch.setattr(module, "monotonic_s", lambda: time.monotonic_s)
    return time


def test_history_stops_first_and_cancels_last(time: Time) -> None:
    budget = RateBudget(100)
    for lane, last in ((Lane.HISTORY, 50), (Lane.ACCOUNT, 70), (Lane.ORDER, 80), (Lane.CANCEL, 100)):
        while budget.wait_s(1, lane) == 0:
            budget.take_now(1, lane)
        assert budget.used_weight == last
        with pytest.raises(RateLimited):
            budget.take_now(1, lane)
    time.passes(60)
    budget.take_now(1, Lane.HISTORY)
    assert budget.used_weight == 1


def test_windows_are_those_of_the_wall_clock(time: Time) -> None:
    time.passes(-(time.wall_s % 60) + 50)
    budget = RateBudget(100)
    budget.take_now(50, Lane.HISTORY)
    assert budget.wait_s(1, Lane.HISTORY) == pytest.approx(10)


def test_foreign_use_counts_and_a_late_header_takes_nothing_back(time: Time) -> None:
    budget = RateBudget(100)
    budget.take_now(5, Lane.HISTORY)
    budget.adopt(45)
    budget.adopt(12)
    assert budget.used_weight == 45
    with pytest.raises(RateLimited):
        budget.take_now(10, Lane.HISTORY)


def test_orders_are_counted_in_their_own_windows_and_limits_follow_the_venue(time: Time) -> None:
    budget = RateBudget(6000, ((2, 10), (5, 86_400)))
    budget.take_now(1, Lane.ORDER, orders=1)
    budget.take_now(1, Lane.ORDER, orders=1)
    with pytest.raises(RateLimited):
        budget.take_now(1, Lane.ORDER, orders=1)
    budget.take_now(1, Lane.CANCEL)
    budget.adopt_orders(2, 10, 4)
    budget.take_now(1, Lane.ORDER, orders=1)
    time.passes(10)
    budget.adopt_orders(5, 86_400, 5)
    with pytest.raises(RateLimited) as refused:
        budget.take_now(1, Lane.ORDER, orders=1)
    assert refused.value.retry_after_s > 10


def test_silence_holds_for_every_lane(time: Time) -> None:
    budget = RateBudget(6000)
    budget.silence(7)
    budget.silence(3)
    for lane in Lane:
        with pytest.raises(RateLimited):
            budget.take_now(1, lane)
    time.passes(7.1)
    budget.take_now(1, Lane.HISTORY)


async def test_waiting_is_bounded(time: Time) -> None:
    budget = RateBudget(100)
    budget.silence(100)
    with pytest.raises(RateLimited):
        await budget.take(1, Lane.CANCEL, max_wait_s=5)


def test_the_offset_is_within_half_a_round_trip_and_survives_a_step_of_the_wall_clock(time: Time) -> None:
    clock = VenueClock()
    assert not clock.known
    assert clock.bound_s == float("inf")
    venue_ahead_s = 2.5
    clock.observe(time.monotonic_s, int((time.wall_s + 0.03 + venue_ahead_s) * 1e9), time.monotonic_s + 0.1)
    time.passes(0.1)
    assert clock.bound_s == pytest.approx(0.05)
    assert abs(clock.now_ns() / 1e9 - (time.wall_s + venue_ahead_s)) <= clock.bound_s
    before_ns = clock.now_ns()
    time.wall_s += 3600
    assert clock.now_ns() == before_ns
    assert clock.offset_ns / 1e9 == pytest.approx(venue_ahead_s - 3600, abs=0.06)


def test_the_best_recent_sample_counts_and_ages(time: Time) -> None:
    clock = VenueClock()
    clock.observe(time.monotonic_s, int(time.wall_s * 1e9), time.monotonic_s + 0.01)
    clock.observe(time.monotonic_s, int((time.wall_s + 9) * 1e9), time.monotonic_s + 1.0)
    assert clock.bound_s < 0.01
    time.passes(600)
    assert clock.bound_s == pytest.approx(0.005 + 0.06, rel=0.05)
    clock.forget()
    clock.observe(time.monotonic_s, int((time.wall_s + 9) * 1e9), time.monotonic_s + 0.2)
    assert clock.offset_ns / 1e9 == pytest.approx(9, abs=0.11)


async def test_measuring_needs_one_answer_of_three(time: Time) -> None:
    clock = VenueClock()
    answers = [TransientError("no"), TransientError("no"), int(time.wall_s * 1e9)]

    async def server_time_ns() -> int:
        answer = answers.pop(0)
        if isinstance(answer, TransientError):
            raise answer
        return answer

    await clock.measure(server_time_ns)
    assert clock.known
    answers[:] = [TransientError("no")] * 3
    with pytest.raises(TransientError):
        await clock.measure(server_time_ns)
