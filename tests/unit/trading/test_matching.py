"""The matching core: priorities, conditions of orders, refusals, and money that is conserved to the last digit."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common_models.base import Side
from common_models.commands_events_models import Liquidity, OrderStatus, OrderType, TimeInForce
from common_models.instruments import Instrument, InstrumentStatus
from trading.matching import MatchingEngine, Result
from trading.matching_accounts import EXTERNAL_ACCOUNT, FEES_ACCOUNT
from trading.matching_orders import EndReason, Happening, NewOrder, Order, Refusal, Refused, SelfTrade
from trading.matching_rules import MarketRules, PriceBand

BTC = "BTC/USDT"
D = Decimal
FUNDS = {"USDT": D(1_000_000), "BTC": D(1_000)}


def instrument(**changes: object) -> Instrument:
    values: dict[str, object] = {
        "exchange": "test",
        "symbol": BTC,
        "ts_event_ns": None,
        "ts_recv_ns": 0,
        "native_symbol": "BTCUSDT",
        "base": "BTC",
        "quote": "USDT",
        "status": InstrumentStatus.TRADING,
        "price_tick": D("0.01"),
        "quantity_step": D("0.00001"),
        "min_quantity": D("0.00001"),
    }
    return Instrument(**{**values, **changes})  # type: ignore[arg-type]


def engine(fee: str = "0.001", rules: MarketRules | None = None, accounts: str = "ab") -> MatchingEngine:
    made = MatchingEngine(maker_fee=D(fee), taker_fee=D(fee) * 2, track_changes=True)
    made.add_market(rules or MarketRules(instrument()))
    for account in accounts:
        made.accounts.open(account)
        for asset, amount in FUNDS.items():
            made.accounts.deposit(account, asset, amount)
    return made


def new(account: str, side: Side, quantity: str | None, price: str | None = None, **changes: object) -> NewOrder:
    values: dict[str, object] = {
        "account": account,
        "symbol": BTC,
        "side": side,
        "order_type": OrderType.LIMIT if price else OrderType.MARKET,
        "client_order_id": "",
        "quantity": D(quantity) if quantity else None,
        "price": D(price) if price else None,
    }
    return NewOrder(**{**values, **changes})  # type: ignore[arg-type]


def placed(result: Result) -> Order:
    assert result.order is not None
    return result.order


def refusal_of(made: MatchingEngine, order: NewOrder) -> Refusal:
    with pytest.raises(Refused) as caught:
        made.place(order, 1)
    return caught.value.refusal


# -- priorities ---------------------------------------------------------------------------------------------------------


def test_a_better_price_trades_first_and_at_one_price_the_older_order() -> None:
    made = engine()
    worse = placed(made.place(new("a", Side.SELL, "1", "101"), 1))
    first = placed(made.place(new("a", Side.SELL, "1", "100"), 2))
    second = placed(made.place(new("a", Side.SELL, "1", "100"), 3))

    result = made.place(new("b", Side.BUY, "2.5", "101"), 4)

    assert [(e.maker, e.price, e.quantity) for e in result.executions] == [
        (first, D(100), D(1)),
        (second, D(100), D(1)),
        (worse, D(101), D("0.5")),
    ]
    assert placed(result).status is OrderStatus.FILLED
    assert (worse.status, worse.remaining) == (OrderStatus.PARTIALLY_FILLED, D("0.5"))


def test_each_side_pays_its_fee_in_what_it_receives_and_nothing_is_lost() -> None:
    made = engine()
    made.place(new("a", Side.SELL, "0.5", "60000"), 1)
    result = made.place(new("b", Side.BUY, "0.5", "61000"), 2)

    (execution,) = result.executions
    assert (execution.maker_fee, execution.taker_fee) == (D("30"), D("0.001"))  # 0.1 % of 30,000 USDT; 0.2 % of 0.5 BTC
    assert made.accounts.holding("b", "BTC").free == D("1000.499")
    assert made.accounts.holding("b", "USDT").free == D(970_000)  # paid the maker's price, not its limit
    assert made.accounts.holding("a", "USDT").free == D(1_029_970)
    assert made.accounts.holding(FEES_ACCOUNT, "BTC").free == D("0.001")


def test_a_fee_is_cut_to_the_fee_step_and_never_rounded_up() -> None:
    made = engine(fee="0.00075")
    made.place(new("a", Side.SELL, "0.00001", "61737.63"), 1)
    (execution,) = made.place(new("b", Side.BUY, "0.00001"), 2).executions
    assert execution.taker_fee == D("0.00000001")  # of 0.000000015
    assert execution.maker_fee == D("0.00046303")  # of 0.000463032225


# -- what remains ---------------------------------------------------------------------------------------------------------


def test_a_resting_order_locks_what_it_may_spend_and_a_cancel_frees_it() -> None:
    made = engine()
    order = placed(made.place(new("a", Side.BUY, "2", "50000.5"), 1))
    assert made.accounts.holding("a", "USDT").locked == D("100001.0")
    made.cancel(order, 2)
    assert made.accounts.holding("a", "USDT").locked == 0
    assert made.accounts.holding("a", "USDT").free == FUNDS["USDT"]
    assert (order.status, order.end_reason) == (OrderStatus.CANCELED, EndReason.CANCELED)
    with pytest.raises(Refused):
        made.cancel(order, 3)


def test_immediate_or_cancel_keeps_what_it_got_and_expires() -> None:
    made = engine()
    made.place(new("a", Side.SELL, "1", "100"), 1)
    order = placed(made.place(new("b", Side.BUY, "3", "100", time_in_force=TimeInForce.IOC), 2))
    assert (order.status, order.end_reason, order.filled) == (OrderStatus.EXPIRED, EndReason.UNFILLED_IOC, D(1))
    assert made.accounts.holding("b", "USDT").locked == 0


def test_fill_or_kill_takes_all_or_nothing() -> None:
    made = engine()
    made.place(new("a", Side.SELL, "1", "100"), 1)
    killed = placed(made.place(new("b", Side.BUY, "1.5", "100", time_in_force=TimeInForce.FOK), 2))
    assert (killed.status, killed.end_reason, killed.filled) == (OrderStatus.EXPIRED, EndReason.UNFILLED_FOK, 0)
    filled = placed(made.place(new("b", Side.BUY, "1", "100", time_in_force=TimeInForce.FOK), 3))
    assert filled.status is OrderStatus.FILLED


def test_a_market_order_ends_where_the_book_ends() -> None:
    made = engine()
    made.place(new("a", Side.SELL, "1", "100"), 1)
    order = placed(made.place(new("b", Side.BUY, "2"), 2))
    assert (order.status, order.end_reason, order.filled) == (OrderStatus.EXPIRED, EndReason.NO_LIQUIDITY, D(1))


def test_a_market_order_by_quote_amount_buys_whole_steps_for_at_most_that() -> None:
    made = engine()
    made.place(new("a", Side.SELL, "0.001", "60000"), 1)
    made.place(new("a", Side.SELL, "1", "61000"), 2)
    order = placed(made.place(new("b", Side.BUY, None, quote_quantity=D(100)), 3))
    assert order.filled == D("0.00165")  # 60 USDT at 60,000, then 0.00065 for 39.65
    assert order.filled_quote == D("99.65")
    assert order.status is OrderStatus.FILLED


def test_a_post_only_order_is_refused_rather_than_take() -> None:
    made = engine()
    made.place(new("a", Side.SELL, "1", "100"), 1)
    assert refusal_of(made, new("b", Side.BUY, "1", "100", post_only=True)) is Refusal.WOULD_TAKE
    assert placed(made.place(new("b", Side.BUY, "1", "99.99", post_only=True), 2)).resting


# -- stops ----------------------------------------------------------------------------------------------------------------


def stop(side: Side, stop_price: str, price: str) -> NewOrder:
    return new("b", side, "1", price, order_type=OrderType.STOP_LIMIT, stop_price=D(stop_price))


def test_a_stop_rests_unseen_until_its_price_trades_then_works_as_a_limit_order() -> None:
    made = engine()
    made.place(new("a", Side.SELL, "1", "100"), 1)
    made.place(new("a", Side.BUY, "1", "100"), 2)
    order = placed(made.place(stop(Side.SELL, "95", "94"), 3))
    assert order.waiting
    assert len(made.books[BTC].asks) == 0
    assert made.accounts.holding("b", "BTC").locked == 1

    made.place(new("a", Side.BUY, "2", "95"), 4)
    result = made.place(new("a", Side.SELL, "1", "95"), 5)

    assert [event.happening for event in result.events if event.order is order] == [Happening.TRIGGERED, Happening.FILLED]
    assert (order.status, order.filled_quote) == (OrderStatus.FILLED, D(95))
    assert made.accounts.holding("b", "BTC").locked == 0


def test_a_stop_that_has_nothing_to_wait_for_is_refused() -> None:
    made = engine()
    made.place(new("a", Side.SELL, "1", "100"), 1)
    made.place(new("a", Side.BUY, "1", "100"), 2)
    assert refusal_of(made, stop(Side.SELL, "100", "99")) is Refusal.WOULD_TRIGGER
    assert refusal_of(made, stop(Side.BUY, "100", "101")) is Refusal.WOULD_TRIGGER


def test_one_stop_may_set_off_the_next() -> None:
    made = engine()
    for price in ("100", "99", "98"):
        made.place(new("a", Side.BUY, "1", price), 1)
    made.books[BTC].last_price = D(101)
    far = placed(made.place(stop(Side.SELL, "99", "98"), 2))
    near = placed(made.place(stop(Side.SELL, "100", "99"), 3))
    result = made.place(new("a", Side.SELL, "1", "100"), 4)
    assert [event.order for event in result.events if event.happening is Happening.TRIGGERED] == [near, far]
    assert (near.filled_quote, far.filled_quote) == (D(99), D(98))


# -- an account that meets itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "taker", "maker"),
    [
        (SelfTrade.NONE, OrderStatus.FILLED, OrderStatus.FILLED),
        (SelfTrade.EXPIRE_TAKER, OrderStatus.EXPIRED, OrderStatus.OPEN),
        (SelfTrade.EXPIRE_MAKER, OrderStatus.FILLED, OrderStatus.EXPIRED),
        (SelfTrade.EXPIRE_BOTH, OrderStatus.EXPIRED, OrderStatus.EXPIRED),
    ],
)
def test_self_trade_prevention_expires_whom_the_taker_says(mode: SelfTrade, taker: OrderStatus, maker: OrderStatus) -> None:
    made = engine()
    own = placed(made.place(new("b", Side.SELL, "1", "100"), 1))
    made.place(new("a", Side.SELL, "1", "101"), 2)
    order = placed(made.place(new("b", Side.BUY, "1", "101", self_trade=mode), 3))
    assert (order.status, own.status) == (taker, maker)
    assert OrderStatus.EXPIRED not in (taker, maker) or EndReason.SELF_TRADE in (order.end_reason, own.end_reason)


# -- refusals -------------------------------------------------------------------------------------------------------------

STRICT = MarketRules(
    instrument(
        min_quantity=D("0.001"),
        max_quantity=D(100),
        max_market_quantity=D(10),
        min_notional=D(5),
        max_notional=D(1_000_000),
        min_price=D("0.01"),
        max_price=D(100_000),
    ),
    PriceBand(D("0.5"), D(2), D("0.5"), D(2)),
    max_open_orders=2,
)


@pytest.mark.parametrize(
    ("order", "refusal"),
    [
        (new("a", Side.BUY, "1", "60000.001"), Refusal.PRICE_RULE),
        (new("a", Side.BUY, "1", "100000.01"), Refusal.PRICE_RULE),
        (new("a", Side.BUY, "1", "20000"), Refusal.PRICE_BAND_RULE),
        (new("a", Side.SELL, "0.0005", "60000"), Refusal.LOT_RULE),
        (new("a", Side.SELL, "0.001005", "60000"), Refusal.LOT_RULE),
        (new("a", Side.SELL, "101", "60000"), Refusal.LOT_RULE),
        (new("a", Side.SELL, "11"), Refusal.MARKET_LOT_RULE),
        (new("a", Side.BUY, None, quote_quantity=D(4)), Refusal.NOTIONAL_RULE),
        (new("a", Side.SELL, "50", "60000"), Refusal.NOTIONAL_RULE),
        (new("a", Side.BUY, "16", "62500"), Refusal.OPEN_ORDERS_RULE),
        (new("a", Side.BUY, "1", "60000", symbol="ETH/USDT"), Refusal.UNKNOWN_SYMBOL),
    ],
)
def test_an_order_that_breaks_a_rule_is_refused_and_changes_nothing(order: NewOrder, refusal: Refusal) -> None:
    made = engine(rules=STRICT)
    made.books[BTC].reference_price = D(60_000)
    if refusal is Refusal.OPEN_ORDERS_RULE:
        for _ in range(2):
            made.place(new("a", Side.BUY, "0.001", "50000"), 1)
    before = {asset: made.accounts.holding("a", asset).locked for asset in FUNDS}
    assert refusal_of(made, order) is refusal
    assert {asset: made.accounts.holding("a", asset).locked for asset in FUNDS} == before


def test_no_order_spends_more_than_is_free() -> None:
    made = engine()
    made.place(new("b", Side.SELL, "20", "100000"), 1)
    assert refusal_of(made, new("a", Side.BUY, "10.00001", "100000")) is Refusal.INSUFFICIENT_BALANCE
    assert refusal_of(made, new("a", Side.BUY, "10.00001")) is Refusal.INSUFFICIENT_BALANCE
    assert refusal_of(made, new("a", Side.SELL, "1000.1", "100000")) is Refusal.INSUFFICIENT_BALANCE
    assert placed(made.place(new("a", Side.BUY, "10", "100000"), 2)).status is OrderStatus.FILLED


def test_a_client_id_is_unique_among_open_orders_only() -> None:
    made = engine()
    first = placed(made.place(new("a", Side.BUY, "1", "100", client_order_id="x"), 1))
    assert refusal_of(made, new("a", Side.BUY, "1", "100", client_order_id="x")) is Refusal.DUPLICATE_CLIENT_ID
    made.place(new("b", Side.BUY, "1", "99", client_order_id="x"), 2)  # another account's own business
    made.place(new("b", Side.SELL, "1", "100"), 3)
    assert first.status is OrderStatus.FILLED
    again = placed(made.place(new("a", Side.BUY, "1", "98", client_order_id="x"), 4))
    assert made.find("a", client_order_id="x") is again


def test_a_halted_market_takes_no_orders() -> None:
    made = engine(rules=MarketRules(instrument(status=InstrumentStatus.HALTED)))
    assert refusal_of(made, new("a", Side.BUY, "1", "100")) is Refusal.HALTED


# -- a followed market -----------------------------------------------------------------------------------------------------


def test_an_order_takes_the_outside_levels_and_the_next_update_restores_them() -> None:
    made = engine()
    made.set_level(BTC, Side.SELL, D(100), D(3), 1)
    order = placed(made.place(new("a", Side.BUY, "2", "100"), 2))
    assert order.status is OrderStatus.FILLED
    assert made.books[BTC].asks.size_at(D(100)) == 1
    made.set_level(BTC, Side.SELL, D(100), D(3), 3)
    assert made.books[BTC].asks.size_at(D(100)) == 3
    made.set_level(BTC, Side.SELL, D(100), D(0), 4)
    assert made.books[BTC].asks.best() is None


def test_an_outside_trade_serves_the_queue_in_turn() -> None:
    made = engine()
    made.set_level(BTC, Side.BUY, D(100), D(2), 1)
    order = placed(made.place(new("a", Side.BUY, "1", "100"), 2))
    made.print_trade(BTC, Side.SELL, D(100), D("2.4"), 3)
    assert order.filled == D("0.4")  # 2 stood before it
    result = made.print_trade(BTC, Side.SELL, D(99), D(5), 4)
    assert order.status is OrderStatus.FILLED
    assert [event.liquidity for event in result.events] == [Liquidity.MAKER]
    assert made.books[BTC].last_price == 99


def test_an_outside_level_that_crosses_our_order_trades_with_it_first() -> None:
    made = engine()
    order = placed(made.place(new("a", Side.SELL, "1", "100"), 1))
    made.set_level(BTC, Side.BUY, D(101), D(4), 2)
    assert (order.status, order.filled_quote) == (OrderStatus.FILLED, D(100))
    assert made.books[BTC].bids.size_at(D(101)) == 3


# -- recovery --------------------------------------------------------------------------------------------------------------


def test_a_restored_order_keeps_its_place_and_its_money() -> None:
    made = engine()
    first = placed(made.place(new("a", Side.SELL, "1", "100"), 1))
    made.place(new("a", Side.SELL, "1", "100"), 2)
    later = engine(accounts="b")
    later.accounts.open("a")
    holding = later.accounts.holding("a", "BTC")
    holding.free, holding.locked = D(998), D(2)
    for order in made.open_orders("a"):
        later.restore(order)
    result = later.place(new("b", Side.BUY, "1", "100"), 3)
    assert result.executions[0].maker is first
    assert placed(result).order_id == 3
    assert later.accounts.holding("a", "BTC").locked == 1


# -- properties ------------------------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(list(Side)),
        st.sampled_from(["limit", "limit", "limit", "market", "quote", "stop", "post", "cancel", "level", "trade"]),
        st.integers(95, 105),
        st.integers(1, 50),
        st.sampled_from(list(TimeInForce)),
        st.sampled_from(list(SelfTrade)),
    ),
    max_size=60,
)


def carry_out(made: MatchingEngine, step: tuple[str, Side, str, int, int, TimeInForce, SelfTrade], now_ns: int) -> Result:
    account, side, kind, ticks, units, time_in_force, self_trade = step
    price, quantity = ticks * D("0.37"), units * D("0.00013")
    if kind == "level":
        return made.set_level(BTC, side, price, quantity, now_ns)
    if kind == "trade":
        return made.print_trade(BTC, side, price, quantity, now_ns)
    if kind == "cancel":
        orders = made.open_orders(account)
        if not orders:
            raise Refused(Refusal.UNKNOWN_ORDER)
        return made.cancel(orders[units % len(orders)], now_ns)
    if kind == "quote":
        return made.place(new(account, side, None, quote_quantity=price * quantity, self_trade=self_trade), now_ns)
    if kind == "market":
        return made.place(new(account, side, str(quantity), self_trade=self_trade), now_ns)
    shape: dict[str, object] = {"self_trade": self_trade}
    if kind == "stop":
        shape |= {"order_type": OrderType.STOP_LIMIT, "stop_price": price + D("0.37")}
    elif kind == "post":
        shape["post_only"] = True
    else:
        shape["time_in_force"] = time_in_force
    return made.place(new(account, side, str(quantity), str(price), **shape), now_ns)


def check_books(made: MatchingEngine) -> None:
    book = made.books[BTC]
    bid, ask = book.bids.best(), book.asks.best()
    own_bid = max(
        (o.price for a in "abc" for o in made.open_orders(a) if o.resting and o.side is Side.BUY and o.price), default=None
    )
    own_ask = min(
        (o.price for a in "abc" for o in made.open_orders(a) if o.resting and o.side is Side.SELL and o.price), default=None
    )
    assert own_bid is None or ask is None or own_bid < ask
    assert own_ask is None or bid is None or bid < own_ask
    for ladder in (book.bids, book.asks):
        for price in ladder.prices():
            level = ladder.level(price)
            assert level.size == sum(order.remaining for order in level.orders.values()) > 0
            inside = [order.working_ns for order in level.orders.values() if order.account != EXTERNAL_ACCOUNT]
            assert inside == sorted(inside)  # first come, first served


def check_accounts(made: MatchingEngine, totals: dict[str, Decimal]) -> None:
    for asset, total in totals.items():
        assert made.accounts.total(asset) == total
    for account in "abc":
        for asset in FUNDS:
            holding = made.accounts.holding(account, asset)
            spending = Side.BUY if asset == "USDT" else Side.SELL
            assert holding.locked == sum(order.locked for order in made.open_orders(account) if order.side is spending)
            assert holding.free >= 0


@settings(max_examples=150, deadline=None)
@given(steps)
def test_whatever_happens_money_is_conserved_and_the_book_never_crosses(
    script: list[tuple[str, Side, str, int, int, TimeInForce, SelfTrade]],
) -> None:
    made = engine(accounts="abc")
    totals = {asset: made.accounts.total(asset) for asset in FUNDS}
    trade_ids: list[int] = []
    for number, step in enumerate(script, start=1):
        try:
            result = carry_out(made, step, number)
        except Refused:
            continue
        finally:
            check_accounts(made, totals)
        check_books(made)
        trade_ids += [execution.trade_id for execution in result.executions]
        for event in result.events:
            order = event.order
            assert 0 <= order.filled <= order.quantity
            assert (order.status is OrderStatus.FILLED) == (order.filled == order.quantity > 0 and order.end_reason is None)
            assert (made.find(order.account, order_id=order.order_id) is None) == order.status.terminal
    assert trade_ids == list(range(1, len(trade_ids) + 1))
