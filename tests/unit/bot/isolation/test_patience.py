"""A worker is blamed for its own time only."""

from __future__ import annotations

from bot.isolation.patience import Patience
from bot.isolation.process_view import Usage


def used(cpu_s: float = 0.0, starved_s: float = 0.0) -> Usage:
    return Usage(cpu_s, starved_s, 1)


def ticks_until_lost(patience: Patience, elapsed_s: float, starved_share: float = 0.0) -> int:
    for tick in range(1000):
        now_s = tick * elapsed_s
        if patience.lost(1, elapsed_s, used(now_s * (1 - starved_share), now_s * starved_share)) is not None:
            return tick
    raise AssertionError("never lost")


def test_after_its_time_a_request_is_lost() -> None:
    assert ticks_until_lost(Patience(1.0), 0.125) == 8


def test_a_bot_or_machine_that_stood_still_does_not_blame_it() -> None:
    patience = Patience(1.0)
    patience.lost(1, 0.1, used())

    assert patience.lost(1, 3600.0, used()) is None


def test_a_worker_without_a_processor_gets_more_but_not_for_ever() -> None:
    assert ticks_until_lost(Patience(1.0), 0.125, starved_share=0.5) == 16
    assert ticks_until_lost(Patience(1.0), 0.125, starved_share=1.0) == 80


def test_every_request_has_its_own_time() -> None:
    patience = Patience(1.0)

    assert all(patience.lost(request, 0.2, used()) is None for request in range(100))


def test_how_long_it_had_and_what_it_used_are_told() -> None:
    patience = Patience(0.25)
    patience.lost(1, 0.125, used(5.0, 7.0))
    patience.lost(1, 0.125, used(5.125, 7.0))

    assert patience.lost(1, 0.125, used(5.25, 7.0)) == (0.25, 0.25)
