"""Messages for tests of the bus: plain ones, and hypothesis strategies that make any."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from common_models import Alert, AlertLevel, Message, OrderBook, Signal, Ticker, Trade
from common_models.base import Side
from common_models.commands_events_models import Direction

NS = 1_781_234_567_890_123_456


def ticker(price: str = "65000.01", exchange: str = "binance") -> Ticker[str]:
    return Ticker(
        exchange=exchange,
        symbol="BTC/USDT",
        ts_event_ns=None,
        ts_recv_ns=NS,
        bid_price=price,
        bid_size="1.2",
        ask_price="65000.02",
        ask_size="0.5",
        crossed=False,
    )


def trade(number: int) -> Trade[str]:
    return Trade(
        exchange="binance",
        symbol="BTC/USDT",
        ts_event_ns=NS,
        ts_recv_ns=NS,
        trade_id=str(number),
        side=Side.BUY,
        price="65000.01",
        size="0.001",
    )


def signal(reason: str) -> Signal:
    return Signal(
        strategy="test",
        exchange="binance",
        symbol="BTC/USDT",
        direction=Direction.BUY,
        confidence=0.5,
        strength=0.5,
        reason=reason,
        ts_event_ns=NS,
    )


def alert(text: str) -> Alert:
    return Alert(level=AlertLevel.INFO, source="test", code="TEST", text=text, ts_event_ns=NS)


numbers = st.decimals(min_value=Decimal(-(10**17)), max_value=Decimal(10**17), allow_nan=False, allow_infinity=False, places=8)
texts = st.text(max_size=20)
levels = st.lists(st.tuples(numbers, numbers), max_size=5).map(tuple)


def any_message(kind: Any) -> st.SearchStrategy[Message]:
    """Any message of one member of MESSAGE_TYPES, each field drawn from its annotation."""
    struct = get_origin(kind) or kind
    hints = get_type_hints(struct)
    fields = {name: _values(struct, name, hints[name]) for name in struct.__struct_fields__ if name != "schema_version"}
    return st.builds(struct, **fields)


def _values(struct: type, name: str, hint: Any) -> st.SearchStrategy[Any]:
    if struct is OrderBook and name in ("bids", "asks"):
        return levels
    if name.endswith("_ns") and hint is int:
        return st.integers(0, 2**63 - 1)
    if hint is Decimal or getattr(hint, "__default__", None) is Decimal:
        return numbers
    if hint is int:
        return st.integers(-(2**53), 2**53)
    if hint is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if hint is str:
        return texts
    if hint is bool:
        return st.booleans()
    if hint is type(None):
        return st.none()
    if get_origin(hint) is dict:
        return st.dictionaries(texts, texts, max_size=3)
    if get_origin(hint) is tuple:
        return st.lists(texts, max_size=3).map(tuple)
    if isinstance(hint, type):
        return st.sampled_from(list(hint))  # type: ignore[call-overload]  # the enums
    return st.one_of(*(_values(struct, name, part) for part in get_args(hint)))
