"""Everything that may forbid sending, asked in the last step before the bytes leave."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from connectors.lease import Lease
from runtime.clock import monotonic_s
from runtime.emergency_stop import StopState, StopSwitch

CLOCK_REFUSALS = 3
CLOCK_REFUSALS_WITHIN_S = 60.0

Refusal = tuple[str, str]
"""A code and a sentence."""


class SendGate:
    """The lease, the emergency stop, and what the venue has made plain: a refused key, a clock that cannot be trusted."""

    def __init__(self, lease: Lease, switch: StopSwitch) -> None:
        self._lease = lease
        self._switch = switch
        self._clock_refusals_s: deque[float] = deque(maxlen=CLOCK_REFUSALS)
        self.refused_key = ""
        """Why the venue takes no orders from us any more; only a person (`resume`, or a restart) clears it."""

    @property
    def writer(self) -> bool:
        """Whether this process is the account's writer now."""
        return self._lease.held

    def refusal(self, *, reduces: bool) -> Refusal | None:
        """Why an order may not be sent now; None when it may. `reduces` passes a pressed stop."""
        return self._refusal(self._switch.state, reduces)

    @contextmanager
    def sending(self, *, reduces: bool) -> Iterator[Refusal | None]:
        """As `refusal`, and a stop pressed meanwhile waits for the end of the block."""
        with self._switch.sending() as state:
            yield self._refusal(state, reduces)

    def clock_refused(self) -> None:
        """The venue refused our time stamp: too many of these in a row and nothing new is sent for a while."""
        self._clock_refusals_s.append(monotonic_s())

    @property
    def clock_trusted(self) -> bool:
        full = len(self._clock_refusals_s) == CLOCK_REFUSALS
        return not full or monotonic_s() - self._clock_refusals_s[0] > CLOCK_REFUSALS_WITHIN_S

    def _refusal(self, stop: StopState, reduces: bool) -> Refusal | None:
        if not self._lease.held:
            return "FENCED", "this connector does not hold the account's lease"
        if self.refused_key:
            return "VENUE_REFUSES_KEY", self.refused_key
        if stop.pressed and not reduces:
            return "HALTED", f"the emergency stop is pressed: {stop.reason or 'no reason given'}"
        if not self.clock_trusted and not reduces:
            return (
                "CLOCK_UNTRUSTED",
                f"the venue refused our time stamp {CLOCK_REFUSALS} times within {CLOCK_REFUSALS_WITHIN_S:.0f} s",
            )
        return None
