"""How long an order takes from the frame that moved us to its first fill, as far as a connector sees it."""

from __future__ import annotations

from common_models import PlaceOrder
from runtime.clock import monotonic_ns, now_ns
from runtime.metrics import hop


class OrderTimes:
    """The hops of one exchange's orders around the venue's socket."""

    def __init__(self, exchange: str) -> None:
        self._command_to_wire = hop("command_to_wire", exchange)
        self._event_to_wire = hop("event_to_wire", exchange)
        self._wire_to_ack = hop("wire_to_ack", exchange)

    def sent(self, command: PlaceOrder) -> int:
        """The order has just been written to the socket; returns the moment, for `answered`."""
        at_ns = now_ns()
        if command.ts_pub_ns:
            self._command_to_wire.observe_ns(at_ns - command.ts_pub_ns)
        if command.triggered_ns:
            self._event_to_wire.observe_ns(at_ns - command.triggered_ns)
        return monotonic_ns()

    def answered(self, sent_ns: int) -> None:
        """The venue's answer to it is here."""
        if sent_ns:
            self._wire_to_ack.observe_ns(monotonic_ns() - sent_ns)
