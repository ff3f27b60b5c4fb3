"""The way of an order as spans: ids that follow from messages, causes before effects, whatever order they come in."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bus.trace_spans import MAX_PENDING, MAX_TEXT, Span, SpanMaker, producer_of
from common_models import (
    AnyMessage,
    Decision,
    Fill,
    OrderStatus,
    OrderType,
    OrderUpdate,
    PlaceOrder,
    RoundTrip,
    Signal,
    Verdict,
)
from common_models.base import Side
from common_models.commands_events_models import Direction, Liquidity
from runtime.trace_ids import span_id, trace_id, trace_text
from tests.unit.bus.messages import alert

D = Decimal
MS = 1_000_000
T0 = 1_700_000_000_000_000_000
FRAME = "connector-binance.binance.tickers:1700000000000:17"
SETTLE = 2_000 * MS

ORDER: dict[str, Any] = {"exchange": "binance", "account": "main", "symbol": "BTC/USDT"}
CHAIN: dict[str, Any] = {"correlation_id": FRAME}
SIGNAL = Signal(
    **CHAIN, message_id="bot.signals:1:1", causation_id=FRAME, ts_pub_ns=T0 + 3 * MS, ts_event_ns=T0, strategy="sma",
    exchange="binance", symbol="BTC/USDT", direction=Direction.BUY, confidence=1.0, strength=1.0, reason="up",
)  # fmt: skip
DECISION = Decision(
    **CHAIN, **ORDER, message_id="bot.decisions:1:1", causation_id=SIGNAL.message_id, ts_pub_ns=T0 + 4 * MS, ts_event_ns=T0,
    strategy="consensus", direction=Direction.BUY, verdict=Verdict.TAKEN, code="ENTRY", reason="r" * 500, numbers={}, signals=(),
)  # fmt: skip
COMMAND = PlaceOrder(
    **CHAIN, **ORDER, message_id="bot.commands.binance.main:1:1", causation_id=DECISION.message_id, ts_pub_ns=T0 + 5 * MS,
    command_id="c", strategy="consensus", created_at_ns=T0 + 4 * MS, expires_at_ns=T0 + 10**10, side=Side.BUY,
    order_type=OrderType.MARKET, quantity=D("0.1"), triggered_ns=T0 + 2 * MS,
)  # fmt: skip
UPDATE = OrderUpdate(
    **CHAIN, **ORDER, message_id="connector-binance.binance.main.orders:1:1", causation_id=COMMAND.message_id, ts_pub_ns=T0 + 9 * MS,
    ts_event_ns=T0 + 7 * MS, ts_recv_ns=T0 + 8 * MS, client_order_id="id", side=Side.BUY, order_type=OrderType.MARKET,
    status=OrderStatus.FILLED, quantity=D("0.1"), filled_quantity=D("0.1"), filled_quote=D(5000), revision=2,
)  # fmt: skip
FILL = Fill(
    **CHAIN, **ORDER, message_id="connector-binance.binance.main.fills:1:1", causation_id=COMMAND.message_id, ts_pub_ns=T0 + 9 * MS,
    ts_event_ns=T0 + 7 * MS, ts_recv_ns=T0 + 8 * MS, trade_id="77", client_order_id="id", exchange_order_id="9", side=Side.BUY,
    price=D(50_000), quantity=D("0.1"), quote_quantity=D(5000), fee=D(1), fee_asset="USDT", liquidity=Liquidity.TAKER,
)  # fmt: skip
TRIP = RoundTrip(
    **ORDER, message_id="bot.round-trips:1:1", ts_pub_ns=T0 + 11 * MS, strategy="consensus", side=Side.BUY, quantity=D("0.1"),
    entry_cost=D(1), exit_proceeds=D(2), fees=D(0), profit=D(1), opened_ns=T0, closed_ns=T0, exit_reason="x", trade_ids=("76", "77"),
)  # fmt: skip
WAY: list[AnyMessage] = [SIGNAL, DECISION, COMMAND, UPDATE, FILL, TRIP]


def spans_of(messages: list[AnyMessage], maker: SpanMaker | None = None) -> list[Span]:
    maker = maker or SpanMaker(SETTLE)
    for message in messages:
        maker.add(message, T0)
    return list(maker.take(T0 + SETTLE))


def test_the_way_of_an_order_is_one_trace_from_the_venues_clock_to_the_fill() -> None:
    spans = spans_of(WAY)
    assert {span.trace_id for span in spans} == {trace_id(FRAME)}
    shown = [(span.name, span.service, (span.start_ns - T0) // MS, (span.end_ns - T0) // MS) for span in spans]
    assert shown == [
        ("frame binance.tickers", "connector-binance", 0, 2),
        ("signal sma", "bot", 2, 3),
        ("decision taken ENTRY", "bot", 3, 4),
        ("place_order", "bot", 4, 5),
        ("order FILLED", "connector-binance", 5, 9),
        ("fill", "connector-binance", 5, 9),
        ("round_trip", "bot", 9, 11),
    ]
    parents = [span.parent_id for span in spans]
    ids = [span.span_id for span in spans]
    assert parents == [None, ids[0], ids[1], ids[2], ids[3], ids[3], ids[5]]
    assert spans[4].events == (("at the venue", T0 + 7 * MS), ("received", T0 + 8 * MS))


@given(st.permutations(WAY), st.integers(0, 6))
def test_the_order_in_which_streams_are_read_changes_nothing(messages: list[AnyMessage], cut: int) -> None:
    maker = SpanMaker(SETTLE)
    spans = {span.span_id: span for span in spans_of(WAY)}
    for index, message in enumerate([*messages, *messages[:cut]]):
        maker.add(message, T0 + index)
    found = list(maker.take(T0 + SETTLE + 100))
    assert {span.span_id: span for span in found} == spans
    assert len(found) == len(spans)
    assert maker.copies == cut


def test_nothing_is_told_before_its_causes_may_have_come() -> None:
    maker = SpanMaker(SETTLE)
    maker.add(SIGNAL, T0)
    assert list(maker.take(T0 + SETTLE - 1)) == []
    assert len(list(maker.take(T0 + SETTLE))) == 2
    assert maker.pending == 0


def test_without_its_causes_a_span_begins_by_its_own_account_and_keeps_its_place() -> None:
    (fill,) = spans_of([FILL])
    assert (fill.start_ns, fill.trace_id, fill.parent_id) == (FILL.ts_recv_ns, trace_id(FRAME), span_id(COMMAND.message_id))
    (lonely,) = spans_of([TRIP])
    assert (lonely.trace_id, lonely.parent_id) == (trace_id(TRIP.message_id), None)


def test_a_clock_that_runs_ahead_makes_no_negative_time() -> None:
    ahead = replace(SIGNAL, ts_event_ns=T0 + 10**12)
    assert all(span.start_ns <= span.end_ns <= SIGNAL.ts_pub_ns for span in spans_of([ahead]))


def test_failures_are_marked_and_texts_are_bounded() -> None:
    spans = spans_of([replace(UPDATE, status=OrderStatus.UNKNOWN), replace(DECISION, message_id="bot.decisions:1:2")])
    assert [span.failed for span in spans if span.name.startswith("order")] == [True]
    assert max(len(str(value)) for span in spans for value in span.attributes.values()) <= MAX_TEXT


def test_other_messages_are_no_part_of_a_trace() -> None:
    assert spans_of([alert("x"), replace(SIGNAL, message_id="")]) == []


def test_a_flood_is_told_at_once_rather_than_kept() -> None:
    maker = SpanMaker(SETTLE)
    for number in range(MAX_PENDING + 10):
        maker.add(replace(SIGNAL, message_id=f"bot.signals:1:{number}"), T0)
    assert len(list(maker.take(T0))) == 10 + 1  # and the frame
    assert maker.pending == MAX_PENDING


@given(st.text(max_size=40))
def test_ids_are_never_zero_and_always_the_same(text: str) -> None:
    assert 0 < trace_id(text) < 2**128
    assert 0 < span_id(text) < 2**64
    assert trace_text(text) == f"{trace_id(text):032x}"
    assert producer_of(text)
