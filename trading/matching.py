"""The matching core: price-time priority, exact balances, no I/O and no clock.

One engine holds all markets and accounts of a venue. Simulator, paper mode and backtests hand in orders with the time, and get back
what happened. A request either raises `Refused` and has changed nothing, or is carried out whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from common_models.base import Side
from common_models.commands_events_models import Liquidity, OrderStatus, OrderType, TimeInForce
from common_models.instruments import InstrumentStatus
from trading.decimal_context import exact_arithmetic, rounded_down
from trading.matching_accounts import EXTERNAL_ACCOUNT, FEES_ACCOUNT, Accounts
from trading.matching_book import Book, would_trigger
from trading.matching_orders import (
    EndReason,
    Execution,
    Happening,
    NewOrder,
    Order,
    OrderEvent,
    Refusal,
    Refused,
)
from trading.matching_plan import Plan, Wanted, crossed_prices, make_plan
from trading.matching_rules import MarketRules


@dataclass(slots=True)
class Result:
    """What one request did at `now_ns`: its order, each step of each limited account's orders, and every match, in order."""

    now_ns: int
    order: Order | None = None
    events: list[OrderEvent] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)


class MatchingEngine:
    """All books and balances of one venue. Fee rates are fractions (0.001 is 0.1 %); fees are cut to `fee_step`, never rounded up.

    With `track_changes` each book remembers which levels changed, for those who publish depth.
    """

    def __init__(
        self, *, maker_fee: Decimal, taker_fee: Decimal, fee_step: Decimal = Decimal("0.00000001"), track_changes: bool = False
    ) -> None:
        self.maker_fee = maker_fee
        self.taker_fee = taker_fee
        self.accounts = Accounts()
        self.accounts.open(FEES_ACCOUNT)
        self.accounts.open(EXTERNAL_ACCOUNT, unlimited=True)
        self.books: dict[str, Book] = {}
        self.rules: dict[str, MarketRules] = {}
        self.next_order_id = 1
        self._fee_step = fee_step
        self._track_changes = track_changes
        self._open: dict[str, dict[int, Order]] = {}
        self._by_client_id: dict[tuple[str, str], Order] = {}

    def add_market(self, rules: MarketRules) -> Book:
        """Open a market, or change the rules of one; orders that rest stay."""
        symbol = rules.instrument.symbol
        self.rules[symbol] = rules
        return self.books.setdefault(symbol, Book(symbol, track_changes=self._track_changes))

    # -- asking ---------------------------------------------------------------------------------------------------------

    def open_orders(self, account: str, symbol: str | None = None) -> list[Order]:
        """Open orders of an account, oldest first."""
        return [order for order in self._open.get(account, {}).values() if symbol is None or order.symbol == symbol]

    def find(self, account: str, *, order_id: int | None = None, client_order_id: str | None = None) -> Order | None:
        """An open order by either id."""
        if order_id is not None:
            return self._open.get(account, {}).get(order_id)
        return self._by_client_id.get((account, client_order_id)) if client_order_id else None

    def check(self, new: NewOrder) -> None:
        """Raise Refused if `new` could not be placed now; changes nothing."""
        with exact_arithmetic():
            self._checked_plan(new)

    # -- changing -------------------------------------------------------------------------------------------------------

    def place(self, new: NewOrder, now_ns: int) -> Result:
        """Accept, match and rest an order, then whatever stops its trades set off; raises Refused."""
        with exact_arithmetic():
            plan = self._checked_plan(new)
            book = self.books[new.symbol]
            order = self._accept(new, plan, now_ns)
            result = Result(now_ns, order)
            self._tell(result, Happening.ACCEPTED, order)
            if order.order_type is OrderType.STOP_LIMIT:
                self._lock_remaining(order)
                order.waiting = True
                book.stops.add(order)
            else:
                order.working_ns = now_ns
                self._work(book, order, plan, result)
                self._run_stops(book, result)
            return result

    def cancel(self, order: Order, now_ns: int) -> Result:
        """Take an open order out; raises Refused when it is not open any more."""
        with exact_arithmetic():
            if order.status.terminal:
                raise Refused(Refusal.UNKNOWN_ORDER, f"order {order.order_id} is {order.status.value}")
            result = Result(now_ns, order)
            self._end(order, OrderStatus.CANCELED, EndReason.CANCELED, result)
            return result

    def restore(self, order: Order) -> None:
        """Put back an open order of an earlier run, with what it locks; restore the oldest first, before anything is placed.

        Balances come separately (they already have the locked part); matching waits for the next order.
        """
        with exact_arithmetic():
            book = self.books[order.symbol]
            self._index(order)
            self.next_order_id = max(self.next_order_id, order.order_id + 1)
            if order.waiting:
                book.stops.add(order)
            else:
                order.resting = True
                book.sides[order.side].add(order)
                self._touch(book, order)

    # -- following a market that is seen and not simulated -------------------------------------------------------------

    def set_level(self, symbol: str, side: Side, price: Decimal, size: Decimal, now_ns: int) -> Result:
        """Let the outside liquidity at `price` be `size`; orders of ours that it crosses trade with it first, as resting orders.

        It keeps its place in the queue while it only shrinks or grows, and comes last when it appears anew.
        """
        with exact_arithmetic():
            book = self.books[symbol]
            result = Result(now_ns)
            known = book.external.get((side, price))
            if known is not None:
                self._resize_external(book, known, size)
            elif size:
                order = self._external_order(symbol, side, price, size, now_ns)
                plan = self._plan(book, order, price, size, None)
                self._execute(book, order, plan, result)
                self._run_stops(book, result)
                if order.remaining:
                    book.external[(side, price)] = order
                    self._rest(book, order)
            return result

    def print_trade(self, symbol: str, taker_side: Side, price: Decimal, size: Decimal, now_ns: int) -> Result:
        """A trade happened outside: what rests here at that price or better would have taken part, in its turn.

        Outside liquidity at `price` shrinks as the queue is served; our orders in it fill.
        """
        with exact_arithmetic():
            book = self.books[symbol]
            result = Result(now_ns)
            left = size
            ladder = book.sides[taker_side.opposite]
            taker = self._external_order(symbol, taker_side, price, size, now_ns)
            for level_price in list(crossed_prices(book, taker_side, price)):
                for maker in list(ladder.level(level_price).orders.values()):
                    quantity = min(left, maker.remaining)
                    if not quantity:
                        break
                    if maker.account != EXTERNAL_ACCOUNT:
                        self._match(book, taker, maker, quantity, result)
                    elif level_price == price:
                        self._resize_external(book, maker, maker.remaining - quantity)
                    else:
                        continue  # a level that the outside had already lost when the trade happened
                    left -= quantity
            book.last_price = price
            self._run_stops(book, result)
            return result

    # -- accepting ------------------------------------------------------------------------------------------------------

    def _checked_plan(self, new: NewOrder) -> Plan:
        rules = self.rules.get(new.symbol)
        if rules is None:
            raise Refused(Refusal.UNKNOWN_SYMBOL, new.symbol)
        if rules.instrument.status is not InstrumentStatus.TRADING:
            raise Refused(Refusal.HALTED, new.symbol)
        book = self.books[new.symbol]
        last = book.last_price
        reference = book.reference_price if book.reference_price is not None else last
        limited = self.accounts.limited(new.account)
        rules.check(new, reference, len(self.open_orders(new.account, new.symbol)) if limited and rules.max_open_orders else 0)
        if new.client_order_id and (new.account, new.client_order_id) in self._by_client_id:
            raise Refused(Refusal.DUPLICATE_CLIENT_ID, new.client_order_id)
        if new.order_type is OrderType.STOP_LIMIT:
            assert new.stop_price is not None
            if last is not None and would_trigger(new.side, new.stop_price, last):
                raise Refused(Refusal.WOULD_TRIGGER, f"stop {new.stop_price}, last trade {last}")
            plan = Plan()
        else:
            plan = self._plan(book, new, new.price, new.quantity, new.quote_quantity)
            if new.post_only and (plan.steps or plan.taker_expires):
                raise Refused(Refusal.WOULD_TAKE, f"price {new.price}")
        if limited:
            self._check_funds(new, plan, rules)
        return plan

    def _check_funds(self, new: NewOrder, plan: Plan, rules: MarketRules) -> None:
        instrument = rules.instrument
        if new.side is Side.BUY:
            asset = instrument.quote
            limit_cost = new.price * new.quantity if new.price is not None and new.quantity is not None else None
            needed = limit_cost if limit_cost is not None else plan.cost
        else:
            asset = instrument.base
            needed = new.quantity if new.quantity is not None else plan.quantity
        free = self.accounts.holding(new.account, asset).free
        if free < needed:
            raise Refused(Refusal.INSUFFICIENT_BALANCE, f"needs {needed} {asset}, free {free}")

    def _accept(self, new: NewOrder, plan: Plan, now_ns: int) -> Order:
        order = Order(
            order_id=self.next_order_id,
            account=new.account,
            symbol=new.symbol,
            side=new.side,
            order_type=new.order_type,
            client_order_id=new.client_order_id,
            quantity=new.quantity if new.quantity is not None else plan.quantity,
            price=new.price,
            created_ns=now_ns,
            quote_quantity=new.quote_quantity,
            stop_price=new.stop_price,
            time_in_force=new.time_in_force,
            post_only=new.post_only,
            self_trade=new.self_trade,
            updated_ns=now_ns,
        )
        self.next_order_id += 1
        self._index(order)
        return order

    def _index(self, order: Order) -> None:
        self._open.setdefault(order.account, {})[order.order_id] = order
        if order.client_order_id:
            self._by_client_id[(order.account, order.client_order_id)] = order

    # -- matching -------------------------------------------------------------------------------------------------------

    def _plan(
        self, book: Book, taker: NewOrder | Order, limit: Decimal | None, quantity: Decimal | None, quote_quantity: Decimal | None
    ) -> Plan:
        instrument = self.rules[book.symbol].instrument
        step = instrument.market_quantity_step or instrument.quantity_step
        return make_plan(book, taker, limit, Wanted(quantity, quote_quantity, step))

    def _work(self, book: Book, order: Order, plan: Plan, result: Result) -> None:
        """Carry out a plan for an accepted order, then rest or end what remains of it."""
        if order.time_in_force is TimeInForce.FOK and plan.quantity < order.quantity:
            self._end(order, OrderStatus.EXPIRED, EndReason.UNFILLED_FOK, result)
            return
        self._execute(book, order, plan, result)
        if order.status is OrderStatus.FILLED:
            return
        if plan.taker_expires:
            self._end(order, OrderStatus.EXPIRED, EndReason.SELF_TRADE, result)
        elif order.order_type is OrderType.MARKET:
            self._end(order, OrderStatus.EXPIRED, EndReason.NO_LIQUIDITY, result)
        elif order.time_in_force is TimeInForce.IOC:
            self._end(order, OrderStatus.EXPIRED, EndReason.UNFILLED_IOC, result)
        else:
            self._lock_remaining(order)
            self._rest(book, order)

    def _execute(self, book: Book, taker: Order, plan: Plan, result: Result) -> None:
        for maker, quantity in plan.steps:
            if quantity:
                self._match(book, taker, maker, quantity, result)
            else:
                self._end(maker, OrderStatus.EXPIRED, EndReason.SELF_TRADE, result)

    def _match(self, book: Book, taker: Order, maker: Order, quantity: Decimal, result: Result) -> None:
        """Trade `quantity` at the maker's price: money, goods and fees change hands, and both orders move on."""
        instrument = self.rules[book.symbol].instrument
        price = maker.price
        assert price is not None
        cost = price * quantity
        buyer, seller = (taker, maker) if taker.side is Side.BUY else (maker, taker)
        buyer_fee = self._fee(quantity, self.maker_fee if buyer is maker else self.taker_fee)
        seller_fee = self._fee(cost, self.maker_fee if seller is maker else self.taker_fee)
        self.accounts.pay(buyer, instrument.quote, cost)
        self.accounts.pay(seller, instrument.base, quantity)
        self.accounts.receive(buyer, instrument.base, quantity, buyer_fee)
        self.accounts.receive(seller, instrument.quote, cost, seller_fee)
        maker_fee, taker_fee = (seller_fee, buyer_fee) if buyer is taker else (buyer_fee, seller_fee)
        execution = Execution(
            book.next_trade_id,
            book.symbol,
            price,
            quantity,
            cost,
            result.now_ns,
            maker,
            taker,
            maker_fee=maker_fee,
            taker_fee=taker_fee,
        )
        book.next_trade_id += 1
        book.last_price = price
        result.executions.append(execution)
        for order in (maker, taker):
            order.filled += quantity
            order.filled_quote += cost
            order.updated_ns = result.now_ns
            order.status = OrderStatus.FILLED if order.filled == order.quantity else OrderStatus.PARTIALLY_FILLED
        book.sides[maker.side].reduce(maker, quantity)
        self._touch(book, maker)
        for order, liquidity in ((taker, Liquidity.TAKER), (maker, Liquidity.MAKER)):
            if order.status is OrderStatus.FILLED:
                self._forget(order)
            self._tell(result, Happening.FILLED, order, execution, liquidity)

    def _fee(self, received: Decimal, rate: Decimal) -> Decimal:
        return rounded_down(received * rate, self._fee_step)

    def _run_stops(self, book: Book, result: Result) -> None:
        """Turn stops that the last price woke into limit orders, one after the other: each may move the price again."""
        while book.last_price is not None and (order := book.stops.pop_triggered(book.last_price)) is not None:
            order.waiting = False
            order.working_ns = order.updated_ns = result.now_ns
            self.accounts.release(order, self._spent_asset(order))
            self._tell(result, Happening.TRIGGERED, order)
            self._work(book, order, self._plan(book, order, order.price, order.remaining, None), result)

    # -- resting and ending ---------------------------------------------------------------------------------------------

    def _spent_asset(self, order: Order) -> str:
        instrument = self.rules[order.symbol].instrument
        return instrument.quote if order.side is Side.BUY else instrument.base

    def _lock_remaining(self, order: Order) -> None:
        assert order.price is not None
        amount = order.price * order.remaining if order.side is Side.BUY else order.remaining
        self.accounts.lock(order, self._spent_asset(order), amount)

    def _rest(self, book: Book, order: Order) -> None:
        order.resting = True
        book.sides[order.side].add(order)
        self._touch(book, order)

    def _end(self, order: Order, status: OrderStatus, reason: EndReason, result: Result) -> None:
        """End an order that is not filled: out of the book, its money free again."""
        book = self.books[order.symbol]
        if order.resting:
            book.sides[order.side].remove(order)
            self._touch(book, order)
        elif order.waiting:
            book.stops.remove(order)
        order.waiting = False
        order.status = status
        order.end_reason = reason
        order.updated_ns = result.now_ns
        self.accounts.release(order, self._spent_asset(order))
        self._forget(order)
        self._tell(result, Happening.ENDED, order)

    def _forget(self, order: Order) -> None:
        order.resting = False
        if order.account == EXTERNAL_ACCOUNT and order.price is not None:
            external = self.books[order.symbol].external
            if external.get((order.side, order.price)) is order:
                del external[(order.side, order.price)]
            return
        del self._open[order.account][order.order_id]
        if order.client_order_id:
            del self._by_client_id[(order.account, order.client_order_id)]

    def _touch(self, book: Book, order: Order) -> None:
        assert order.price is not None
        book.touch(order.side, order.price)

    def _tell(
        self,
        result: Result,
        happening: Happening,
        order: Order,
        execution: Execution | None = None,
        liquidity: Liquidity | None = None,
    ) -> None:
        if self.accounts.limited(order.account):
            result.events.append(OrderEvent(happening, order, order.status, order.filled, order.filled_quote, execution, liquidity))

    # -- outside liquidity ----------------------------------------------------------------------------------------------

    def _external_order(self, symbol: str, side: Side, price: Decimal, size: Decimal, now_ns: int) -> Order:
        order = Order(self.next_order_id, EXTERNAL_ACCOUNT, symbol, side, OrderType.LIMIT, "", size, price, now_ns)
        self.next_order_id += 1
        return order

    def _resize_external(self, book: Book, order: Order, size: Decimal) -> None:
        """Change what remains of an outside level in place, or take it out."""
        ladder = book.sides[order.side]
        if not size:
            ladder.remove(order)
            self._forget(order)
        elif size != order.remaining:
            change = order.remaining - size
            order.quantity -= change
            ladder.reduce(order, change)
        else:
            return
        self._touch(book, order)
