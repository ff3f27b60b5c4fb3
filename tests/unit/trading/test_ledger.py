"""The ledger's identity to the last digit, against balances that are counted on their own in exact fractions."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common_models import Fill, Liquidity, Side
from trading.ledger import SEEN_TRADES, Ledger, LedgerError, balance_changes, position_change

D = Decimal


def fill(
    number: int,
    side: Side,
    quantity: str | Decimal,
    price: str | Decimal,
    fee: str | Decimal = "0",
    fee_asset: str = "USDT",
    quote_quantity: Decimal | None = None,
    symbol: str = "BTC/USDT",
) -> Fill:
    quantity, price = D(quantity), D(price)
    return Fill(
        exchange="binance",
        account="main",
        ts_event_ns=1_700_000_000_000_000_000 + number,
        ts_recv_ns=1_700_000_000_000_000_500 + number,
        trade_id=str(number),
        client_order_id="5" * 32,
        exchange_order_id="1",
        symbol=symbol,
        side=side,
        price=price,
        quantity=quantity,
        quote_quantity=price * quantity if quote_quantity is None else quote_quantity,
        fee=D(fee),
        fee_asset=fee_asset,
        liquidity=Liquidity.TAKER,
    )


def test_buying_one_with_a_fee_in_the_bought_asset_opens_a_lot_of_what_was_received() -> None:
    ledger = Ledger(symbol="BTC/USDT")
    ledger.apply(fill(1, Side.BUY, "1", "50000", fee="0.001", fee_asset="BTC"))

    assert [(lot.quantity, lot.price) for lot in ledger.lots] == [(D("0.999"), D(50000))]
    assert (ledger.quantity, ledger.cost, ledger.fees, ledger.realised) == (D("0.999"), D(49950), D(50), 0)
    assert ledger.unrealised(D(51000)) == D(999)


def test_the_oldest_lot_is_sold_first() -> None:
    ledger = Ledger(symbol="BTC/USDT")
    for one in (fill(1, Side.BUY, "1", "100"), fill(2, Side.BUY, "1", "200"), fill(3, Side.SELL, "1.5", "300")):
        ledger.apply(one)

    assert ledger.realised == D("250")  # 1 x (300 - 100) + 0.5 x (300 - 200)
    assert [(lot.quantity, lot.price) for lot in ledger.lots] == [(D("0.5"), D(200))]


def test_a_fill_counts_once_however_often_it_is_delivered() -> None:
    ledger = Ledger(symbol="BTC/USDT")
    once = fill(1, Side.BUY, "1", "100", fee="0.1")

    assert [ledger.apply(once) for _ in range(3)] == [True, False, False]
    assert (ledger.quantity, ledger.fees) == (D(1), D("0.1"))


def test_trade_ids_are_remembered_within_a_bound() -> None:
    ledger = Ledger(symbol="BTC/USDT", seen=dict.fromkeys(str(number) for number in range(SEEN_TRADES)))
    ledger.apply(fill(SEEN_TRADES, Side.BUY, "1", "100"))

    assert len(ledger.seen) == SEEN_TRADES
    assert ledger.has(str(SEEN_TRADES))
    assert not ledger.has("0")


def test_a_trip_from_entry_to_flat_adds_up() -> None:
    ledger = Ledger(symbol="BTC/USDT")
    ledger.apply(fill(1, Side.BUY, "1", "100", fee="0.001", fee_asset="BTC"))
    ledger.apply(fill(2, Side.SELL, "0.9", "110", fee="0.099"))
    ledger.apply(fill(3, Side.SELL, "0.099", "90", fee="0.00891"))
    trip = ledger.end_trip()

    assert trip is not None
    assert (trip.side, trip.quantity, trip.trade_ids) == (Side.BUY, D("0.999"), ["1", "2", "3"])
    assert trip.exit_value - trip.entry_value - trip.fees == ledger.realised - ledger.fees
    assert trip.fees == D("0.1") + D("0.099") + D("0.00891")
    assert ledger.quantity == 0
    assert ledger.end_trip() is None


def test_a_trip_that_closed_nothing_is_none() -> None:
    ledger = Ledger(symbol="BTC/USDT")
    ledger.apply(fill(1, Side.BUY, "1", "100"))

    assert ledger.end_trip() is None


def test_dust_of_an_earlier_trip_is_sold_with_the_next_one() -> None:
    ledger = Ledger(symbol="BTC/USDT")
    ledger.apply(fill(1, Side.BUY, "1.0001", "100"))
    ledger.apply(fill(2, Side.SELL, "1", "110"))
    assert ledger.end_trip() is not None
    ledger.apply(fill(3, Side.SELL, "0.0001", "120"))
    trip = ledger.end_trip()

    assert trip is not None
    assert (trip.side, trip.quantity, trip.entry_value) == (Side.BUY, D("0.0001"), D("0.01"))
    assert ledger.lots == []


def test_a_fee_in_an_asset_without_a_price_is_an_error_that_names_it() -> None:
    ledger = Ledger(symbol="BTC/USDT")
    ledger.apply(fill(1, Side.BUY, "1", "100", fee="0.01", fee_asset="BNB"))

    with pytest.raises(LedgerError, match="BNB"):
        ledger.fees_paid({})
    assert ledger.fees_paid({"BNB": D(300)}) == D(3)


def test_a_fill_of_another_symbol_is_refused() -> None:
    with pytest.raises(LedgerError, match="ETH/USDT"):
        Ledger(symbol="BTC/USDT").apply(fill(1, Side.BUY, "1", "1", symbol="ETH/USDT"))


def amounts(digits: int, most: int) -> st.SearchStrategy[Decimal]:
    return st.integers(1, most).map(lambda number: D(number).scaleb(-digits))


fills = st.lists(
    st.tuples(
        st.sampled_from(Side),
        amounts(8, 10**11),  # quantity
        amounts(8, 10**14),  # price
        st.integers(-20, 200).map(lambda rate: D(rate).scaleb(-5)),  # fee rate; below zero is a rebate
        st.sampled_from(["BTC", "USDT", "BNB"]),
        st.booleans(),  # the venue cuts the money to eight digits
    ),
    max_size=25,
)


def filled(number: int, row: tuple[Side, Decimal, Decimal, Decimal, str, bool]) -> Fill:
    side, quantity, price, rate, asset, cut = row
    quote = round(price * quantity, 8) if cut else price * quantity
    fee = round(rate * (quantity if asset == "BTC" else quote), 8)
    return fill(number, side, quantity, price, fee, asset, quote)


@given(rows=fills, mark=amounts(8, 10**14), bnb=amounts(8, 10**11), data=st.data())
@settings(max_examples=200, deadline=None)
def test_realised_and_unrealised_less_fees_is_the_change_of_balance_to_the_last_digit(
    rows: list[tuple[Side, Decimal, Decimal, Decimal, str, bool]], mark: Decimal, bnb: Decimal, data: st.DataObject
) -> None:
    ledger = Ledger(symbol="BTC/USDT")
    balances = dict.fromkeys(["BTC", "USDT", "BNB"], Fraction(0))
    trips = Fraction(0)
    for number, row in enumerate(rows):
        one = filled(number, row)
        foreseen = ledger.after(one)
        ledger.apply(one)
        assert ledger.quantity == foreseen
        ledger.apply(one)  # a repeated delivery changes nothing
        sign = one.side.sign
        balances["BTC"] += sign * Fraction(one.quantity)
        balances["USDT"] -= sign * Fraction(one.quote_quantity)
        balances[one.fee_asset] -= Fraction(one.fee)
        if data.draw(st.integers(0, 9)) == 0:
            ledger = msgspec.json.decode(msgspec.json.encode(ledger), type=Ledger)  # stored and read back
        if data.draw(st.integers(0, 4)) == 0 and (trip := ledger.end_trip()) is not None:
            earned = trip.exit_value - trip.entry_value
            trips += Fraction(earned if trip.side is Side.BUY else -earned)

    change = balances["BTC"] * Fraction(mark) + balances["USDT"] + balances["BNB"] * Fraction(bnb)
    result = Fraction(ledger.realised) + Fraction(ledger.unrealised(mark)) - Fraction(ledger.fees_paid({"BNB": bnb}))
    assert result == change
    assert Fraction(ledger.quantity) == balances["BTC"] == sum(Fraction(lot.quantity) for lot in ledger.lots)
    directions = {lot.quantity > 0 for lot in ledger.lots}
    assert len(directions) < 2, "lots of both directions at once"


@given(rows=fills)
@settings(max_examples=50, deadline=None)
def test_the_balance_changes_of_a_fill_are_those_of_the_venue(
    rows: list[tuple[Side, Decimal, Decimal, Decimal, str, bool]],
) -> None:
    for number, row in enumerate(rows):
        one = filled(number, row)
        changes = balance_changes(one)
        assert changes["BTC"] == position_change(one)
        paid = one.fee if one.fee_asset == "USDT" else D(0)
        assert Fraction(changes["USDT"]) == -one.side.sign * Fraction(one.quote_quantity) - Fraction(paid)
