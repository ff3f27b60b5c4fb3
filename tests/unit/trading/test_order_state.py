"""An order's state follows from the set of facts: every arrival order and every duplicate ends in the same state."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common_models import Liquidity, OrderStatus, OrderType, Side
from trading.order_state import (
    Attempted,
    Closed,
    Doubted,
    Escalated,
    Executed,
    Fact,
    Knowledge,
    OrderTerms,
    Refuted,
    Reported,
    order_state,
    state_of,
)

TERMS = OrderTerms(symbol="BTC/USDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=Decimal("1.0"), price=Decimal(100))
SENT = Attempted(attempt=1, deadline_ns=1000)


def fill(trade_id: int, quantity: str, price: str = "100") -> Executed:
    return Executed(
        trade_id=str(trade_id),
        price=Decimal(price),
        quantity=Decimal(quantity),
        quote_quantity=Decimal(quantity) * Decimal(price),
        fee=Decimal("0.001"),
        fee_asset="BTC",
        liquidity=Liquidity.MAKER,
        at_ns=trade_id,
        exchange_order_id="28",
    )


def report(status: OrderStatus, filled: str = "0", **more: str) -> Reported:
    return Reported(
        status=status,
        at_ns=5,
        exchange_order_id="28",
        filled_quantity=Decimal(filled),
        filled_quote=Decimal(filled) * 100,
        code=more.get("code", ""),
        reason=more.get("reason", ""),
    )


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ([], OrderStatus.INTENT),
        ([SENT], OrderStatus.SENT),
        ([SENT, Doubted(attempt=1, reason="time-out")], OrderStatus.UNKNOWN),
        ([SENT, Doubted(attempt=1, reason="time-out"), report(OrderStatus.OPEN)], OrderStatus.OPEN),
        ([SENT, Refuted(attempt=1, code="-2010", reason="no money", final=True)], OrderStatus.REJECTED),
        ([SENT, Refuted(attempt=1, code="-1021", reason="clock", final=False)], OrderStatus.INTENT),
        (
            [SENT, Refuted(attempt=1, code="-1021", reason="clock", final=False), Attempted(attempt=2, deadline_ns=2000)],
            OrderStatus.SENT,
        ),
        ([Closed(status=OrderStatus.EXPIRED, code="EXPIRED_LOCALLY", reason="late")], OrderStatus.EXPIRED),
        ([SENT, fill(1, "0.4")], OrderStatus.PARTIALLY_FILLED),
        ([SENT, fill(1, "0.4"), fill(2, "0.6")], OrderStatus.FILLED),
        ([SENT, report(OrderStatus.CANCELED, "0.4"), fill(1, "0.4")], OrderStatus.CANCELED),
        ([SENT, report(OrderStatus.CANCELED, "0.4"), fill(1, "0.4"), fill(2, "0.6")], OrderStatus.FILLED),
        ([SENT, Refuted(attempt=1, code="NOT_PLACED", reason="searched", final=True), fill(1, "1")], OrderStatus.FILLED),
    ],
)
def test_what_is_known_decides_the_status(facts: list[Fact], status: OrderStatus) -> None:
    assert order_state(TERMS, facts).status is status


def test_unknown_keeps_the_whole_exposure_reserved_until_there_is_evidence() -> None:
    facts: list[Fact] = [SENT, Doubted(attempt=1, reason="closed")]
    assert order_state(TERMS, facts).open_quantity == TERMS.quantity

    facts.append(Escalated(reason="older than the venue remembers"))
    state = order_state(TERMS, facts)
    assert (state.status, state.operator_review, state.open_quantity) == (OrderStatus.UNKNOWN, True, TERMS.quantity)

    facts.append(Refuted(attempt=1, code="NOT_PLACED", reason="searched", final=True))
    state = order_state(TERMS, facts)
    assert (state.status, state.operator_review, state.open_quantity) == (OrderStatus.REJECTED, False, 0)


def test_a_refused_second_attempt_says_nothing_about_a_first_in_doubt() -> None:
    facts: list[Fact] = [
        SENT,
        Doubted(attempt=1, reason="time-out"),
        Attempted(attempt=2, deadline_ns=2000),
        Refuted(attempt=2, code="-2010", reason="no money", final=True),
    ]
    assert order_state(TERMS, facts).status is OrderStatus.UNKNOWN


def test_the_venues_cumulative_figure_wins_over_the_fills_seen_and_says_that_some_are_missing() -> None:
    state = order_state(TERMS, [SENT, report(OrderStatus.PARTIALLY_FILLED, "0.7"), fill(1, "0.4")])
    assert (state.filled_quantity, state.filled_quote, state.fills_missing) == (Decimal("0.7"), Decimal(70), True)

    state = order_state(TERMS, [SENT, report(OrderStatus.PARTIALLY_FILLED, "0.7"), fill(1, "0.4"), fill(2, "0.3")])
    assert (state.filled_quantity, state.fills_missing) == (Decimal("0.7"), False)


def test_two_venue_orders_under_one_client_id_call_a_person() -> None:
    other = msgspec.structs.replace(report(OrderStatus.OPEN), exchange_order_id="29")
    assert order_state(TERMS, [SENT, report(OrderStatus.OPEN), other]).operator_review


POOL: list[Fact] = [
    SENT,
    Attempted(attempt=2, deadline_ns=2000),
    Doubted(attempt=1, reason="time-out"),
    Doubted(attempt=1, reason="closed"),
    Doubted(attempt=2, reason="restart"),
    Refuted(attempt=1, code="-1021", reason="clock", final=False),
    Refuted(attempt=1, code="NOT_PLACED", reason="searched", final=True),
    Refuted(attempt=2, code="-2010", reason="no money", final=True),
    Closed(status=OrderStatus.EXPIRED, code="EXPIRED_LOCALLY", reason="late"),
    Closed(status=OrderStatus.REJECTED, code="HALTED", reason="stop pressed"),
    Escalated(reason="too old"),
    Escalated(reason="older than 90 days"),
    report(OrderStatus.OPEN),
    report(OrderStatus.PARTIALLY_FILLED, "0.4"),
    report(OrderStatus.PARTIALLY_FILLED, "0.7"),
    report(OrderStatus.CANCELED, "0.7", reason="by user"),
    report(OrderStatus.EXPIRED, "0.4", code="E"),
    report(OrderStatus.REJECTED, code="-2010"),
    report(OrderStatus.FILLED, "1.0"),
    fill(1, "0.4"),
    fill(2, "0.3"),
    fill(3, "0.3", "99"),
    msgspec.structs.replace(fill(1, "0.4"), liquidity=Liquidity.TAKER),  # the same trade, told by another source
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(POOL), max_size=9), st.randoms(use_true_random=False))
def test_arrival_order_and_duplicates_change_nothing(facts: list[Fact], random: object) -> None:
    expected = order_state(TERMS, facts)
    shuffled = facts + facts[: len(facts) // 2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert order_state(TERMS, shuffled) == expected


def test_every_arrival_order_of_a_whole_life_ends_the_same() -> None:
    life = [
        SENT,
        Doubted(attempt=1, reason="x"),
        report(OrderStatus.OPEN),
        fill(1, "0.4"),
        report(OrderStatus.CANCELED, "0.4"),
        fill(2, "0.6"),
    ]
    assert {order_state(TERMS, order) for order in permutations(life)} == {order_state(TERMS, life)}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(POOL), max_size=12))
def test_knowledge_only_grows(facts: list[Fact]) -> None:
    """Filled never falls, a repeated fact is never news, FILLED is never left and UNKNOWN only on evidence."""
    known = Knowledge()
    before = state_of(TERMS, known)
    for fact in facts:
        known.add(fact)
        assert not known.add(fact)
        after = state_of(TERMS, known)
        assert after.filled_quantity >= before.filled_quantity
        assert after.open_quantity == (0 if after.status.terminal else max(Decimal(0), TERMS.quantity - after.filled_quantity))
        if before.status is OrderStatus.FILLED:
            assert after.status is OrderStatus.FILLED
        if before.status is OrderStatus.UNKNOWN and after.status is not OrderStatus.UNKNOWN:
            assert isinstance(fact, Reported | Executed | Refuted), "UNKNOWN is left only on evidence"
        before = after


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(POOL), max_size=12))
def test_knowledge_survives_the_journal(facts: list[Fact]) -> None:
    known = Knowledge()
    for fact in facts:
        known.add(msgspec.json.decode(msgspec.json.encode(fact), type=Fact))
    again = msgspec.json.decode(msgspec.json.encode(known), type=Knowledge)
    assert again == known
    assert state_of(TERMS, again) == state_of(TERMS, known)
