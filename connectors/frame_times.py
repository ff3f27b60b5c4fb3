"""How late market data is: from the venue's clock to our socket, and from there to the bus."""

from __future__ import annotations

from collections.abc import Callable

from common_models.timestamps import NS_PER_MS
from runtime.clock import now_ns
from runtime.metrics import hop

TIMED_FRAMES_MASK = 15
"""One frame of sixteen is timed, subscription by subscription: what that costs is lost in the noise of a busy feed."""


class FrameTimes:
    """The first two hops of one exchange. `clock_offset_ns` is the venue's clock minus ours, by the newest measurement."""

    def __init__(self, exchange: str, clock_offset_ns: Callable[[], int]) -> None:
        self._clock_offset_ns = clock_offset_ns
        self._venue_to_socket = hop("venue_to_socket", exchange)
        self._socket_to_bus = hop("socket_to_bus", exchange)

    def note(self, venue_ms: int | None, ts_recv_ns: int) -> None:
        """A frame that left the socket at `ts_recv_ns` has just been published; `venue_ms` is its own time, if it has one."""
        self._socket_to_bus.observe_ns(now_ns() - ts_recv_ns)
        if venue_ms is not None:
            self._venue_to_socket.observe_ns(ts_recv_ns + self._clock_offset_ns() - venue_ms * NS_PER_MS)
