"""Messages as spans of a trace, by their own ids and times. Pure: nothing on the way of an order knows of traces.

Every message that names its cause becomes one span: it begins when its cause was published and ends when it was itself. The trace
is that of the correlation id, so a frame, the signals and decisions that it led to, the command and all that became of the order
hang together, whichever process said it; the process is the producer in the message id. The frame itself is the root: it reaches
from the venue's clock to our socket.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from common_models import (
    AccountEvent,
    AnyMessage,
    Command,
    Decision,
    Fill,
    Message,
    OrderStatus,
    OrderUpdate,
    PlaceOrder,
    RoundTrip,
    Signal,
)
from runtime.trace_ids import span_id, trace_id

REMEMBERED: Final = 50_000
"""Messages whose time of publication is kept for what they cause, and traces whose root was told."""
MAX_PENDING: Final = 20_000
MAX_TEXT: Final = 200

TOLD: Final = (Signal, Decision, Command, OrderUpdate, Fill, RoundTrip)
"""What becomes a span; other messages on the same streams are no part of an order's way."""

ATTRIBUTES: Final = (
    *("exchange", "account", "symbol", "strategy", "version", "shadow", "direction", "verdict", "code", "reason", "command_id"),
    *("side", "order_type", "quantity", "price", "client_order_id", "status", "revision", "filled_quantity"),
    *("trade_id", "fee", "fee_asset", "profit"),
)
"""Fields that are shown, where a message has them and they say something."""

FAILED: Final = frozenset({OrderStatus.REJECTED, OrderStatus.UNKNOWN})

Value = str | int | bool
Key = TypeVar("Key")
Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of a trace; times are UTC nanoseconds, `start_ns` never after `end_ns`. `events` are named moments within."""

    name: str
    service: str
    trace_id: int
    span_id: int
    parent_id: int | None
    start_ns: int
    end_ns: int
    attributes: dict[str, Value] = field(default_factory=dict)
    events: tuple[tuple[str, int], ...] = ()
    failed: bool = False


class SpanMaker:
    """Takes messages as they come and gives their spans a moment later, when causes that come by other streams are here too."""

    def __init__(self, settle_ns: int) -> None:
        self._settle_ns = settle_ns
        self._pending: dict[str, tuple[int, AnyMessage]] = {}
        self._published: dict[str, int] = {}
        self._received: dict[str, int] = {}  # when the frame of a correlation id left the socket
        self._roots: dict[str, None] = {}
        self._fills: dict[tuple[str, str, str, str], tuple[str, str]] = {}  # correlation and message id by trade
        self.copies = 0

    @property
    def pending(self) -> int:
        """Messages that are no spans yet."""
        return len(self._pending)

    def add(self, message: AnyMessage, now_ns: int) -> None:
        """Take in a message of one of the streams; copies and what is no part of a trace are left out."""
        if not isinstance(message, TOLD) or not message.message_id:
            return
        if message.message_id in self._published:
            self.copies += 1
            return
        _remember(self._published, message.message_id, message.ts_pub_ns)
        if isinstance(message, PlaceOrder) and message.triggered_ns:
            _remember(self._received, message.correlation_id, message.triggered_ns)
        elif isinstance(message, Fill):
            trade = (message.exchange, message.account, message.symbol, message.trade_id)
            _remember(self._fills, trade, (message.correlation_id, message.message_id))
        self._pending[message.message_id] = (now_ns, message)

    def take(self, now_ns: int) -> Iterator[Span]:
        """The spans of messages that came long enough ago, and of the oldest when there are too many."""
        for message_id, (added_ns, message) in list(self._pending.items()):
            if added_ns + self._settle_ns > now_ns and len(self._pending) <= MAX_PENDING:
                return
            del self._pending[message_id]
            yield from self._spans_of(message)

    def _spans_of(self, message: AnyMessage) -> Iterator[Span]:
        correlation_id, causation_id = message.correlation_id, message.causation_id
        if isinstance(message, RoundTrip) and not correlation_id:
            correlation_id, causation_id = self._ended_by(message)
        correlation_id = correlation_id or message.message_id
        received_ns = self._received.get(correlation_id, 0)
        if isinstance(message, Signal | Decision) and correlation_id != message.message_id and correlation_id not in self._roots:
            _remember(self._roots, correlation_id, None)
            yield _root(correlation_id, message, received_ns)
        caused_ns = self._published.get(causation_id) or received_ns or _own_start(message)
        yield Span(
            name=_name(message),
            service=producer_of(message.message_id),
            trace_id=trace_id(correlation_id),
            span_id=span_id(message.message_id),
            parent_id=span_id(causation_id) if causation_id else None,
            start_ns=min(caused_ns, message.ts_pub_ns),
            end_ns=message.ts_pub_ns,
            attributes=_attributes(message),
            events=_events(message),
            failed=isinstance(message, OrderUpdate) and message.status in FAILED,
        )

    def _ended_by(self, trip: RoundTrip) -> tuple[str, str]:
        """Correlation and message id of the fill that ended a round trip; empty when it did not come lately."""
        last = trip.trade_ids[-1] if trip.trade_ids else ""
        return self._fills.get((trip.exchange, trip.account, trip.symbol, last), ("", ""))


def producer_of(message_id: str) -> str:
    """`connector-binance` of `connector-binance.binance.trades:1700000000000:17`."""
    return message_id.partition(".")[0][:MAX_TEXT] or "unknown"


def _root(correlation_id: str, first: Signal | Decision, received_ns: int) -> Span:
    """The frame: from the venue's clock (ours where it has none, or where it runs ahead) to our socket."""
    end_ns = min(received_ns or first.ts_event_ns, first.ts_pub_ns)
    label = correlation_id.partition(".")[2].rpartition(":")[0].rpartition(":")[0]
    return Span(
        name=f"frame {label}"[:MAX_TEXT],
        service=producer_of(correlation_id),
        trace_id=trace_id(correlation_id),
        span_id=span_id(correlation_id),
        parent_id=None,
        start_ns=min(first.ts_event_ns, end_ns),
        end_ns=end_ns,
        attributes={"exchange": first.exchange, "symbol": first.symbol, "message_id": correlation_id[:MAX_TEXT]},
    )


def _own_start(message: Message) -> int:
    """When it began by its own account, for a message whose cause is not known here."""
    match message:
        case Signal() | Decision():
            return message.ts_event_ns
        case Command():
            return message.created_at_ns
        case AccountEvent():
            return message.ts_recv_ns
        case _:
            return message.ts_pub_ns


def _name(message: AnyMessage) -> str:
    kind = str(message.__struct_config__.tag)
    match message:
        case OrderUpdate():
            return f"{kind} {message.status.value}"
        case Decision():
            return f"{kind} {message.verdict.value} {message.code}"[:MAX_TEXT]
        case Signal():
            return f"{kind} {message.strategy}"[:MAX_TEXT]
        case _:
            return kind


def _attributes(message: AnyMessage) -> dict[str, Value]:
    found: dict[str, Value] = {"message_id": message.message_id[:MAX_TEXT]}
    for name in ATTRIBUTES:
        value = getattr(message, name, None)
        if value is not None and value != "":
            found[name] = value if isinstance(value, bool | int) else str(value)[:MAX_TEXT]
    return found


def _events(message: AnyMessage) -> tuple[tuple[str, int], ...]:
    """When the venue did it, and when we heard of it."""
    if not isinstance(message, AccountEvent):
        return ()
    moments = (("at the venue", message.ts_event_ns), ("received", message.ts_recv_ns))
    return tuple((name, at_ns) for name, at_ns in moments if at_ns)


def _remember(known: dict[Key, Kept], key: Key, value: Kept) -> None:
    known[key] = value
    if len(known) > REMEMBERED:
        del known[next(iter(known))]
