"""What a worker has done so far, and whether what it says of an event can be."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bot.isolation.protocol import MAX_SIGNALS_PER_EVENT, Done, ProtocolError
from runtime.clock import monotonic_s

BURST_S: Final = 5
"""So many seconds' worth of signals may come at once: after a pause, so do its events."""
REMEMBERED_CALLS: Final = 1000


@dataclass(slots=True)
class Stats:
    """Figures since the worker started; times in microseconds, memory in bytes."""

    events: int = 0
    signals: int = 0
    errors: int = 0
    call_p99_us: int = 0
    memory_bytes: int = 0
    heartbeat: str = ""


class Tally:
    """`signals_per_s` is what a worker may say on average over a few seconds."""

    def __init__(self, signals_per_s: int) -> None:
        self._per_s = signals_per_s
        self._credit = float(BURST_S * signals_per_s)
        self._credit_s = monotonic_s()
        self._busy_ns: deque[int] = deque(maxlen=REMEMBERED_CALLS)
        self._stats = Stats()

    @property
    def stats(self) -> Stats:
        """The figures of now."""
        busy_ns = sorted(self._busy_ns)
        self._stats.call_p99_us = busy_ns[len(busy_ns) * 99 // 100] // 1000 if busy_ns else 0
        return self._stats

    def note(self, *, heartbeat: str | None = None, memory_bytes: int | None = None) -> None:
        """Keep what was learned of it by the way."""
        if heartbeat is not None:
            self._stats.heartbeat = heartbeat
        if memory_bytes is not None:
            self._stats.memory_bytes = memory_bytes

    def count(self, done: Done, events: Sequence[tuple[bytes, bool]]) -> str:
        """Count an answer to these events; returns why the worker must be ended for it, empty when it need not.

        Raises ProtocolError for signals that cannot be.
        """
        stats = self._stats
        stats.events += len(events)
        stats.errors += len(done.failures)
        if events:
            self._busy_ns.append(done.busy_ns // len(events))
        if not done.said:
            return ""
        if len(done.said) > MAX_SIGNALS_PER_EVENT * len(events):
            raise ProtocolError(f"{len(done.said)} signals for {len(events)} events")
        for said in done.said:
            if said.event >= len(events) or not events[said.event][1]:
                raise ProtocolError(f"a signal on event {said.event}, which it was not asked about")
        stats.signals += len(done.said)
        now_s = monotonic_s()
        self._credit = min(self._credit + (now_s - self._credit_s) * self._per_s, BURST_S * self._per_s) - len(done.said)
        self._credit_s = now_s
        return f"too many signals: more than {self._per_s} a second" if self._credit < 0 else ""
