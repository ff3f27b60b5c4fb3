"""Candles from anywhere in any order make the same unbroken run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.candle_history import CandleHistory, Change
from strategy.testing import candles

TEN = candles(range(100, 110))


def opens(history: CandleHistory) -> list[int]:
    return [TEN.index(candle) for candle in history.run]


def test_candles_in_order_are_appended_and_repeats_ignored() -> None:
    history = CandleHistory(keep=100)

    assert [history.add(candle) for candle in (TEN[0], TEN[1], TEN[1], TEN[0])] == [
        Change.APPENDED,
        Change.APPENDED,
        Change.NONE,
        Change.NONE,
    ]
    assert opens(history) == [0, 1]


def test_a_hole_begins_a_new_run_until_it_is_filled() -> None:
    history = CandleHistory(keep=100)
    history.extend(TEN[:4])

    assert history.add(TEN[6]) is Change.REBUILT
    assert (opens(history), history.holes) == ([6], 1)
    assert history.add(TEN[4]) is Change.NONE
    assert history.add(TEN[5]) is Change.REBUILT
    assert opens(history) == [0, 1, 2, 3, 4, 5, 6]


def test_only_the_newest_are_kept() -> None:
    history = CandleHistory(keep=3)
    for candle in TEN:
        history.add(candle)

    assert opens(history)[-3:] == [7, 8, 9]
    assert len(history.run) <= 6


@given(order=st.permutations(TEN), split=st.integers(0, 10))
def test_the_run_does_not_depend_on_the_order_of_arrival(order: list, split: int) -> None:  # type: ignore[type-arg]
    history = CandleHistory(keep=100)
    followed: list = []  # type: ignore[type-arg]
    for candle in order[:split]:
        change = history.add(candle)
        followed = history.run if change is Change.REBUILT else followed + [candle] * (change is Change.APPENDED)
        assert followed == history.run
    history.extend(order[split:])

    assert history.run == TEN
