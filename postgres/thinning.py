"""Store one book or ticker of a symbol and interval instead of each: history that fits the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from common_models import MarketEvent, Message, OrderBook
from common_models.timestamps import NS_PER_S

Slots = dict[tuple[type[Message], str, str], int]


class Thinner:
    """Keeps the first event of each interval by kind, exchange and symbol.

    Choosing and accepting are two steps: a batch that could not be stored is chosen from again, with the same result.
    """

    def __init__(self, interval_s: Mapping[type[Message], float]) -> None:
        """`interval_s` is by message type; 0 or absent keeps all."""
        self._interval_ns = {kind: round(seconds * NS_PER_S) for kind, seconds in interval_s.items() if seconds > 0}
        self._slots: Slots = {}
        self.thinned = 0

    def choose(self, messages: Sequence[Message]) -> tuple[list[Message], Slots]:
        """The messages to store, and what to `accept` once they are.

        A book that was declared invalid is always kept, and so is the first one after it: the hole must show.
        """
        kept: list[Message] = []
        slots: Slots = {}
        for message in messages:
            interval_ns = self._interval_ns.get(type(message))
            if interval_ns is None:
                kept.append(message)
                continue
            event = cast(MarketEvent, message)
            key = (type(message), event.exchange, event.symbol)
            slot = event.ts_recv_ns // interval_ns
            if isinstance(message, OrderBook) and not message.valid:
                slot = -1
            if slot == -1 or slots.get(key, self._slots.get(key)) != slot:
                slots[key] = slot
                kept.append(message)
        return kept, slots

    def accept(self, slots: Slots, thinned: int) -> None:
        """The chosen messages are safe, `thinned` others were left out."""
        self._slots.update(slots)
        self.thinned += thinned
