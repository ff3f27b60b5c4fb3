"""How long messages are on their way over the bus, reader by reader."""

from __future__ import annotations

from bus.streams import exchange_of
from runtime.clock import now_ns
from runtime.metrics import Histogram, hop


class DeliveryTimes:
    """From the moment when a producer handed a message over to the moment when one reader has decoded it, by exchange.

    The first message of each read is timed: it waited longest, and a busy reader pays for one in some hundred. What was published
    before the reader came is left out: it waited for the reader to start, not for the bus. Readers whose names differ only after
    a hyphen (`bot`, `bot-trades`) are parts of one and share its histograms.
    """

    def __init__(self, reader: str) -> None:
        self._hop = f"bus_to_{reader.partition('-')[0]}"
        self._since_ns = now_ns()
        self._by_stream: dict[str, Histogram] = {}

    def note(self, stream: str, ts_pub_ns: int) -> None:
        """A message of `stream` that was published at `ts_pub_ns` is here."""
        if ts_pub_ns < self._since_ns:
            return
        histogram = self._by_stream.get(stream)
        if histogram is None:
            histogram = self._by_stream[stream] = hop(self._hop, exchange_of(stream))
        histogram.observe_ns(now_ns() - ts_pub_ns)
