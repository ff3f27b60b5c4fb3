"""Quantities fit the budget and the market's rules, and never exceed either."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from common_models import Instrument, InstrumentStatus
from trading.sizing import affordable_quantity, budget, closable_quantity, is_orderable

D = Decimal


def instrument(**changes: object) -> Instrument:
    rules: dict[str, object] = {
        "quantity_step": D("0.00001"),
        "min_quantity": D("0.00001"),
        "max_quantity": D(9000),
        "min_notional": D(5),
        "price_tick": D("0.01"),
    }
    return Instrument(
        exchange="binance",
        symbol="BTC/USDT",
        ts_event_ns=None,
        ts_recv_ns=1,
        native_symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        status=InstrumentStatus.TRADING,
        **(rules | changes),  # type: ignore[arg-type]
    )


def test_two_percent_of_the_equity_buys_whole_steps() -> None:
    money = budget(D(100_000), D(2))

    assert money == 2000
    assert affordable_quantity(money, D("60123.45"), instrument()) == D("0.03326")


def test_the_market_step_and_the_largest_order_bound_a_quantity() -> None:
    assert affordable_quantity(D(1_000), D(1), instrument(market_quantity_step=D(7))) == 994
    assert affordable_quantity(D(1_000), D(1), instrument(max_market_quantity=D("12.3456789"))) == D("12.34567")
    assert affordable_quantity(D(0), D(1), instrument()) == 0


def test_what_is_too_small_to_sell_is_dust() -> None:
    assert closable_quantity(D("0.000009"), D(60_000), instrument()) == 0
    assert closable_quantity(D("0.00008"), D(60_000), instrument()) == 0  # 4.80 USDT
    assert closable_quantity(D("0.0999923"), D(60_000), instrument()) == D("0.09999")


@given(
    money=st.integers(1, 10**12).map(lambda number: D(number).scaleb(-4)),
    price=st.integers(1, 10**10).map(lambda number: D(number).scaleb(-6)),
    places=st.integers(0, 8),
)
def test_the_most_affordable_is_affordable_and_a_step_more_is_not(money: Decimal, price: Decimal, places: int) -> None:
    rules = instrument(quantity_step=D(1).scaleb(-places), max_quantity=None)
    quantity = affordable_quantity(money, price, rules)

    assert quantity * price <= money
    assert (quantity + rules.quantity_step) * price > money
    assert quantity % rules.quantity_step == 0
    assert is_orderable(quantity, price, rules) == (quantity >= rules.min_quantity and quantity * price >= 5)
