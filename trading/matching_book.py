"""Price levels in price-time priority, and the stops that wait beside them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice

from common_models.base import Side
from common_models.decimals import ZERO
from trading.matching_orders import Order


class PriceLevel:
    """The orders at one price, first come first served, and their total size in base currency."""

    __slots__ = ("orders", "size")

    def __init__(self) -> None:
        self.orders: OrderedDict[int, Order] = OrderedDict()  # the first entry is found in constant time, unlike in a dict
        self.size = ZERO


class Ladder:
    """One side of a book: price levels from best to worst."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._prices: list[Decimal] = []  # ascending on both sides; bids are read from the end
        self._levels: dict[Decimal, PriceLevel] = {}

    def __len__(self) -> int:
        return len(self._prices)

    def best(self) -> Decimal | None:
        """The best price, or None when this side is empty."""
        if not self._prices:
            return None
        return self._prices[-1] if self.side is Side.BUY else self._prices[0]

    def size_at(self, price: Decimal) -> Decimal:
        level = self._levels.get(price)
        return level.size if level is not None else ZERO

    def prices(self) -> Iterator[Decimal]:
        """Prices from best to worst; the ladder must not change meanwhile."""
        return reversed(self._prices) if self.side is Side.BUY else iter(self._prices)

    def level(self, price: Decimal) -> PriceLevel:
        """The level of an existing price."""
        return self._levels[price]

    def top(self, count: int) -> list[tuple[Decimal, Decimal]]:
        """(price, size) of the best `count` levels, best first."""
        levels = self._levels
        return [(price, levels[price].size) for price in islice(self.prices(), count)]

    def add(self, order: Order) -> None:
        """Put an order at the end of its price's queue."""
        price = order.price
        assert price is not None
        level = self._levels.get(price)
        if level is None:
            level = self._levels[price] = PriceLevel()
            insort(self._prices, price)
        level.orders[order.order_id] = order
        level.size += order.remaining

    def reduce(self, order: Order, quantity: Decimal) -> None:
        """Take `quantity` from the level's total; the order leaves the queue when nothing of it remains."""
        price = order.price
        assert price is not None
        level = self._levels[price]
        level.size -= quantity
        if not order.remaining:
            del level.orders[order.order_id]
            self._drop_if_empty(price, level)

    def remove(self, order: Order) -> None:
        """Take an order with all that remains of it out of the queue."""
        price = order.price
        assert price is not None
        level = self._levels[price]
        del level.orders[order.order_id]
        level.size -= order.remaining
        self._drop_if_empty(price, level)

    def _drop_if_empty(self, price: Decimal, level: PriceLevel) -> None:
        if not level.orders:
            del self._levels[price]
            del self._prices[bisect_left(self._prices, price)]


class Stops:
    """Stop orders of one book by the price that wakes them: buys when trades rise to it, sells when they fall to it."""

    def __init__(self) -> None:
        self._waiting: dict[Side, list[tuple[Decimal, int]]] = {Side.BUY: [], Side.SELL: []}
        self._orders: dict[int, Order] = {}

    def add(self, order: Order) -> None:
        insort(self._waiting[order.side], _key(order))
        self._orders[order.order_id] = order

    def remove(self, order: Order) -> None:
        queue = self._waiting[order.side]
        del queue[bisect_left(queue, _key(order))]
        del self._orders[order.order_id]

    def pop_triggered(self, last_price: Decimal) -> Order | None:
        """Take out the next order that `last_price` wakes: the nearest stop price, then the oldest."""
        buys, sells = self._waiting[Side.BUY], self._waiting[Side.SELL]
        if buys and buys[0][0] <= last_price:
            return self._orders.pop(buys.pop(0)[1])
        if sells and -sells[0][0] >= last_price:
            return self._orders.pop(sells.pop(0)[1])
        return None


def _key(order: Order) -> tuple[Decimal, int]:
    assert order.stop_price is not None
    return (order.stop_price if order.side is Side.BUY else -order.stop_price, order.order_id)


def would_trigger(side: Side, stop_price: Decimal, last_price: Decimal) -> bool:
    """Whether a stop at `stop_price` has nothing to wait for."""
    return stop_price <= last_price if side is Side.BUY else stop_price >= last_price


class Book:
    """Both sides of one market, its stops, its counters and what changed since someone last asked.

    `update_id` rises by one with each change of a level. `reference_price` is what price bands refer to (None: the last trade).
    """

    def __init__(self, symbol: str, *, track_changes: bool) -> None:
        self.symbol = symbol
        self.sides = {Side.BUY: Ladder(Side.BUY), Side.SELL: Ladder(Side.SELL)}
        self.bids, self.asks = self.sides[Side.BUY], self.sides[Side.SELL]
        self.stops = Stops()
        self.last_price: Decimal | None = None
        self.reference_price: Decimal | None = None
        self.next_trade_id = 1
        self.update_id = 0
        self.followed = False
        self.external: dict[tuple[Side, Decimal], Order] = {}
        self._changes: dict[tuple[Side, Decimal], None] | None = {} if track_changes else None

    def touch(self, side: Side, price: Decimal) -> None:
        """Count a change of one level; in a followed book the outside does the counting."""
        if not self.followed:
            self.update_id += 1
        if self._changes is not None:
            self._changes[(side, price)] = None

    def take_changes(self) -> dict[tuple[Side, Decimal], Decimal]:
        """The new size (0: gone) of each level that changed since the last call."""
        if not self._changes:
            return {}
        changes = {(side, price): self.sides[side].size_at(price) for side, price in self._changes}
        self._changes.clear()
        return changes
