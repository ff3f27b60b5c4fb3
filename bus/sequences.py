"""Telling new messages from copies, and finding the missing ones, by the sequence number in each message id. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MAX_PRODUCERS: Final = 64
MAX_HOLES: Final = 64

NEW: Final = 0
COPY: Final = 1
LATE: Final = 2
"""It was missing, and reported so, and came after all (a producer's retry after a refusal)."""
JUMP: Final = 3


@dataclass(slots=True)
class _Producer:
    """One `producer.label:epoch:` of one stream: the highest number seen and the holes below it."""

    last: int
    holes: list[tuple[int, int]] = field(default_factory=list)

    def fill(self, number: int) -> bool:
        """Take a number out of the holes; False when it was in none."""
        for index, (first, last) in enumerate(self.holes):
            if first <= number <= last:
                self.holes[index : index + 1] = [hole for hole in ((first, number - 1), (number + 1, last)) if hole[0] <= hole[1]]
                return True
        return False


class SequenceTracker:
    """What was seen of one stream. `observe` says NEW, COPY, LATE or JUMP; after JUMP, `missing` is the range of message ids.

    Bounded: MAX_PRODUCERS lives of producers, MAX_HOLES holes each; the oldest are forgotten. A producer that is seen for the first
    time starts where it is, but a new epoch of a known producer must start at 1.
    """

    __slots__ = ("_epochs", "_producers", "missing")

    def __init__(self) -> None:
        self._producers: dict[str, _Producer] = {}
        self._epochs: dict[str, str] = {}  # producer.label to its newest prefix
        self.missing: tuple[str, str, int] = ("", "", 0)

    def observe(self, message_id: str) -> int:
        prefix, _, text = message_id.rpartition(":")
        producer = self._producers.get(prefix)
        if producer is None:
            return self._observe_first(prefix, text)
        try:
            number = int(text)
        except ValueError:
            return NEW  # not one of our ids: nothing can be said
        expected = producer.last + 1
        if number == expected:
            producer.last = number
            return NEW
        if number < expected:
            return LATE if producer.fill(number) else COPY
        self._note_missing(prefix, producer, expected, number - 1)
        producer.last = number
        return JUMP

    def forget(self) -> None:
        """Start anew: what was seen says nothing about what comes."""
        self._producers.clear()
        self._epochs.clear()

    def _observe_first(self, prefix: str, text: str) -> int:
        name, separator, _ = prefix.rpartition(":")
        if not (separator and text.isascii() and text.isdigit() and len(text) < 20):
            return NEW
        number = int(text)
        known = name in self._epochs
        producer = self._producers[prefix] = _Producer(number)
        self._epochs.pop(name, None)
        self._epochs[name] = prefix
        while len(self._producers) > MAX_PRODUCERS:
            self._producers.pop(next(iter(self._producers)))
        while len(self._epochs) > MAX_PRODUCERS:
            self._epochs.pop(next(iter(self._epochs)))
        if known and number > 1:
            self._note_missing(prefix, producer, 1, number - 1)
            return JUMP
        return NEW

    def _note_missing(self, prefix: str, producer: _Producer, first: int, last: int) -> None:
        producer.holes.append((first, last))
        if len(producer.holes) > MAX_HOLES:
            del producer.holes[0]
        self.missing = (f"{prefix}:{first}", f"{prefix}:{last}", last - first + 1)
