"""Finding what an order would trade with, before anything changes: the one walk through the book in price-time order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from common_models.base import Side
from common_models.decimals import ZERO
from trading.matching_accounts import EXTERNAL_ACCOUNT
from trading.matching_book import Book
from trading.matching_orders import NewOrder, Order, SelfTrade


class Wanted(NamedTuple):
    """How much a taker wants: base quantity, or whole `step`s for at most a quote amount."""

    quantity: Decimal | None
    quote_quantity: Decimal | None
    step: Decimal


@dataclass(slots=True)
class Plan:
    """What matching would do. A step with quantity 0 expires its resting order; `cost` is in quote currency."""

    steps: list[tuple[Order, Decimal]] = field(default_factory=list)
    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    taker_expires: bool = False


def crossed_prices(book: Book, taker_side: Side, limit: Decimal | None) -> Iterator[Decimal]:
    """Prices of the other side that a taker with this limit (None: any) may trade at, best first."""
    for price in book.sides[taker_side.opposite].prices():
        if limit is not None and (price > limit if taker_side is Side.BUY else price < limit):
            return
        yield price


def make_plan(book: Book, taker: NewOrder | Order, limit: Decimal | None, wanted: Wanted) -> Plan:
    """Walk the other side until what is wanted is used up, the limit is reached or the book ends."""
    plan = Plan()
    ladder = book.sides[taker.side.opposite]
    for price in crossed_prices(book, taker.side, limit):
        for maker in ladder.level(price).orders.values():
            left = _left(plan, wanted, price)
            if not left:
                return plan
            if maker.account == taker.account and not _meets_itself(plan, taker.self_trade, maker):
                if plan.taker_expires:
                    return plan
                continue
            traded = min(left, maker.remaining)
            plan.steps.append((maker, traded))
            plan.quantity += traded
            plan.cost += traded * price
    return plan


def _left(plan: Plan, wanted: Wanted, price: Decimal) -> Decimal:
    """How much base is still wanted at this price."""
    if wanted.quantity is not None:
        return wanted.quantity - plan.quantity
    assert wanted.quote_quantity is not None
    return (wanted.quote_quantity - plan.cost) // (price * wanted.step) * wanted.step


def _meets_itself(plan: Plan, mode: SelfTrade, maker: Order) -> bool:
    """Whether a taker trades with a resting order of its own account; notes in the plan what expires instead."""
    if maker.account == EXTERNAL_ACCOUNT:
        return False  # outside levels cross for a moment while a followed book is being updated
    if mode in (SelfTrade.EXPIRE_MAKER, SelfTrade.EXPIRE_BOTH):
        plan.steps.append((maker, ZERO))
    plan.taker_expires = mode in (SelfTrade.EXPIRE_TAKER, SelfTrade.EXPIRE_BOTH)
    return mode is SelfTrade.NONE
