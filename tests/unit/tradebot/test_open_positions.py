"""Open, closed or dust: by the rules of the market at the present price."""

from __future__ import annotations

from decimal import Decimal

import pytest

from common_models import Instrument, InstrumentStatus, Position
from tradebot.open_positions import state_of

RULES = Instrument(
    exchange="binance",
    symbol="BTC/USDT",
    ts_event_ns=None,
    ts_recv_ns=1,
    native_symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    status=InstrumentStatus.TRADING,
    price_tick=Decimal("0.01"),
    quantity_step=Decimal("0.001"),
    min_quantity=Decimal("0.001"),
    min_notional=Decimal(5),
)


@pytest.mark.parametrize(
    ("quantity", "mark", "state"),
    [
        ("0", "1000", "closed"),
        ("0.01", "1000", "open"),
        ("-0.01", "1000", "open"),
        ("0.01", "100", "dust"),  # worth 1, and an order is worth 5 at least
        ("0.0009", "1000000", "dust"),  # less than a step
        ("0.01", None, "open"),  # no mark: what it cost counts, 10
    ],
)
def test_a_position_is_what_an_order_can_make_of_it(quantity: str, mark: str | None, state: str) -> None:
    position = Position(
        exchange="binance",
        account="main",
        symbol="BTC/USDT",
        strategy="consensus",
        ts_event_ns=None,
        ts_recv_ns=1,
        quantity=Decimal(quantity),
        cost=Decimal(10),
        mark_price=None if mark is None else Decimal(mark),
    )

    assert state_of(position, RULES) == state
    assert state_of(position, None) == ("closed" if state == "closed" else "open")
