"""Gates say yes, or no with their numbers; the cheap ones are asked first and the rest not at all."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from common_models import ConnectionState, OrderBook, OrderType, PlaceOrder, Side, Ticker
from trading import risk
from trading.risk import ALLOWED, Answer, Denied

D = Decimal


def ticker(**changes: Any) -> Ticker:
    fields: dict[str, Any] = {"bid_price": D(10), "bid_size": D(1), "ask_price": D(11), "ask_size": D(1), "crossed": False}
    return Ticker(exchange="x", symbol="BTC/USDT", ts_event_ns=None, ts_recv_ns=1, **(fields | changes))


def book(*, valid: bool = True, crossed: bool = False) -> OrderBook:
    return OrderBook(
        exchange="x", symbol="B/U", ts_event_ns=None, ts_recv_ns=1, sequence=5, valid=valid, crossed=crossed, bids=(), asks=()
    )


def order(side: Side, quantity: str, price: str | None = None) -> PlaceOrder:
    return PlaceOrder(
        command_id="1",
        exchange="x",
        account="main",
        strategy="s",
        created_at_ns=1,
        expires_at_ns=2,  # type: ignore[arg-type]
        symbol="BTC/USDT",
        side=side,
        order_type=OrderType.LIMIT if price else OrderType.MARKET,
        quantity=D(quantity),
        price=D(price) if price else None,
    )


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (risk.not_halted("me"), "TRADING_HALTED"),
        (risk.venue_ready(ConnectionState.RECONCILING, "why"), "VENUE_NOT_READY"),
        (risk.event_fresh(6_000_000_000, 5_000_000_000), "EVENT_STALE"),
        (risk.quote_usable(None, 0, 1), "QUOTE_MISSING"),
        (risk.quote_usable(ticker(crossed=True), 0, 1), "QUOTE_CROSSED"),
        (risk.quote_usable(ticker(ask_price=D(0)), 0, 1), "QUOTE_CROSSED"),
        (risk.quote_usable(ticker(), 2, 1), "QUOTE_STALE"),
        (risk.book_usable(book(valid=False)), "BOOK_INVALID"),
        (risk.book_usable(book(crossed=True)), "BOOK_CROSSED"),
        (risk.instrument_open(None), "INSTRUMENT_UNKNOWN"),
        (risk.position_flat(D(1), holds=True), "POSITION_OPEN"),
        (risk.nothing_in_flight(["a" * 64]), "ORDER_IN_FLIGHT"),
        (risk.below_max_trades(3, 3), "TRADES_AT_LIMIT"),
        (risk.cooled_down(4, 5), "COOLDOWN_RUNNING"),
        (risk.balance_suffices(None, D(0), D(0)), "BALANCE_UNKNOWN"),
        (risk.balance_suffices(D(10), D(5), D("5.00000001")), "BALANCE_INSUFFICIENT"),
    ],
)
def test_a_shut_gate_has_a_code_and_a_reason(answer: Answer, code: str) -> None:
    assert isinstance(answer, Denied)
    assert answer.code == code
    assert answer.reason
    assert all(isinstance(number, str) for number in answer.numbers.values())


@pytest.mark.parametrize(
    "answer",
    [
        risk.not_halted(None),
        risk.venue_ready(None),
        risk.venue_ready(ConnectionState.CONNECTED),
        risk.event_fresh(5, 5),
        risk.quote_usable(ticker(), 1, 1),
        risk.book_usable(None),
        risk.book_usable(book()),
        risk.position_flat(D("0.000001"), holds=False),
        risk.nothing_in_flight([]),
        risk.below_max_trades(2, 3),
        risk.cooled_down(None, 5),
        risk.cooled_down(5, 5),
        risk.balance_suffices(D(10), D(5), D(5)),
    ],
)
def test_an_open_gate_lets_pass(answer: Answer) -> None:
    assert answer is ALLOWED


def test_gates_behind_the_first_no_are_not_asked() -> None:
    asked = []

    def gates() -> Iterator[Answer]:
        for number, answer in enumerate([ALLOWED, Denied("A_B", "no"), ALLOWED]):
            asked.append(number)
            yield answer

    denial = risk.first_denial(gates())
    assert denial is not None
    assert denial.code == "A_B"
    assert asked == [0, 1]
    assert risk.first_denial([ALLOWED]) is None


def test_what_undecided_buys_may_still_take_is_reserved() -> None:
    orders = [
        (order(Side.BUY, "2"), D("0.5"), D(100)),  # a market order: at the price it reckons with
        (order(Side.BUY, "1", "90"), D(0), D(100)),  # a limit order: at its limit
        (order(Side.SELL, "5"), D(0), D(100)),  # takes no quote currency
    ]

    assert risk.reserved_money(orders) == 240
