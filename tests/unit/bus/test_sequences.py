"""Finding copies and holes by sequence numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bus.sequences import COPY, JUMP, LATE, MAX_HOLES, MAX_PRODUCERS, NEW, SequenceTracker


def test_consecutive_numbers_are_new_and_repeated_ones_copies() -> None:
    tracker = SequenceTracker()
    assert [tracker.observe(f"p:1:{number}") for number in (5, 6, 7, 6, 7, 8)] == [NEW, NEW, NEW, COPY, COPY, NEW]


def test_a_jump_names_exactly_what_is_missing() -> None:
    tracker = SequenceTracker()
    tracker.observe("p:1:5")
    assert tracker.observe("p:1:9") == JUMP
    assert tracker.missing == ("p:1:6", "p:1:8", 3)


def test_a_missing_one_that_comes_late_is_taken_once() -> None:
    tracker = SequenceTracker()
    tracker.observe("p:1:5")
    tracker.observe("p:1:9")
    assert [tracker.observe(f"p:1:{number}") for number in (7, 7, 6, 8, 8, 10)] == [LATE, COPY, LATE, LATE, COPY, NEW]


def test_producers_and_epochs_are_counted_apart() -> None:
    tracker = SequenceTracker()
    assert [tracker.observe(one) for one in ("p:1:5", "q:1:1", "p:1:6", "q:1:2")] == [NEW] * 4
    assert tracker.observe("p:2:1") == NEW


def test_a_new_life_of_a_known_producer_starts_at_one() -> None:
    tracker = SequenceTracker()
    tracker.observe("p:1:5")
    assert tracker.observe("p:2:4") == JUMP
    assert tracker.missing == ("p:2:1", "p:2:3", 3)


def test_ids_of_another_form_are_let_through() -> None:
    tracker = SequenceTracker()
    assert [tracker.observe(one) for one in ("", "x", "a:b", "a:b:c", "a:b:" + "9" * 30, "p:1:٣")] == [NEW] * 6


def test_memory_is_bounded() -> None:
    tracker = SequenceTracker()
    for number in range(1, 500):
        tracker.observe(f"p{number}:1:1")
        tracker.observe(f"same:1:{number * 2}")
    assert len(tracker._producers) <= MAX_PRODUCERS
    assert len(tracker._epochs) <= MAX_PRODUCERS
    assert all(len(producer.holes) <= MAX_HOLES for producer in tracker._producers.values())


@given(st.lists(st.integers(1, 60), min_size=1))
def test_each_number_is_taken_once_and_the_losses_add_up(numbers: list[int]) -> None:
    tracker = SequenceTracker()
    taken: list[int] = []
    reported = late = 0
    for number in numbers:
        match tracker.observe(f"p:1:{number}"):
            case 0:
                taken.append(number)
            case 2:
                taken.append(number)
                late += 1
            case 3:
                taken.append(number)
                reported += tracker.missing[2]
    assert len(set(taken)) == len(taken)
    span = max(taken) - min(numbers[0], *taken) + 1
    assert reported - late == span - len(taken)
