"""What we hold, what it cost and what was earned, in lots first in first out: exact to the last digit.

The identity that everything here keeps, at any mark prices:

    realised + unrealised - fees paid = change of the balances, valued at the mark

It holds because no step divides: a lot knows its price and not its cost, so that a part of it needs no quotient.

A fee in the received asset is taken as the venue takes it: buying 1 BTC with 0.1 % in BTC opens a lot of 0.999 BTC, and 0.001 BTC
at the fill's price counts as fee. A fee in a third asset is kept in that asset and valued when somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from common_models import Fill, Side, Symbol
from common_models.decimals import ZERO
from trading.decimal_context import exact_arithmetic

SEEN_TRADES = 20_000
"""Trade ids that are remembered per ledger; a repeated delivery is at most as old as the bus keeps fills."""


class LedgerError(Exception):
    """A fill that does not belong into this ledger."""


class Lot(msgspec.Struct):
    """`quantity` in base currency (negative when short) that came in at `price`, quote per base."""

    quantity: Decimal
    price: Decimal
    trade_id: str
    opened_ns: int


class Trip(msgspec.Struct, kw_only=True):
    """A position on its way from its first fill to flat. Money in quote currency.

    `entry_value` and `exit_value` cover what was closed so far, so that for a long position the profit before fees is
    `exit_value - entry_value`, and the reverse for a short one. Venue rounding of a fill's money is in `exit_value`.
    """

    side: Side
    opened_ns: int
    closed_ns: int
    quantity: Decimal = ZERO
    entry_value: Decimal = ZERO
    exit_value: Decimal = ZERO
    fees: Decimal = ZERO
    other_fees: dict[str, Decimal] = {}
    trade_ids: list[str] = []


class Ledger(msgspec.Struct, kw_only=True):
    """The lots and the result of one symbol of one strategy on one account.

    `quantity` is the sum of the lots in base currency, negative when short. `realised` is profit before fees, `fees` what was
    paid in base or quote currency (valued at its fill's price), both in quote currency; `other_fees` what was paid in other
    assets, by asset. It is plain data: storing and reading it back is a copy.
    """

    symbol: str
    lots: list[Lot] = []
    quantity: Decimal = ZERO
    realised: Decimal = ZERO
    fees: Decimal = ZERO
    other_fees: dict[str, Decimal] = {}
    trip: Trip | None = None
    seen: dict[str, None] = {}  # trade ids in order of arrival

    def has(self, trade_id: str) -> bool:
        """Whether a fill with this trade id was applied."""
        return trade_id in self.seen

    @property
    def cost(self) -> Decimal:
        """What the open lots cost, in quote currency; negative when short."""
        with exact_arithmetic():
            return sum((lot.quantity * lot.price for lot in self.lots), ZERO)

    def unrealised(self, mark_price: Decimal) -> Decimal:
        """Profit of the open lots if they were closed at `mark_price`, in quote currency."""
        with exact_arithmetic():
            return sum((lot.quantity * (mark_price - lot.price) for lot in self.lots), ZERO)

    def fees_paid(self, marks: Mapping[str, Decimal]) -> Decimal:
        """All fees in quote currency, other assets at `marks` (quote per unit); raises LedgerError when one has no mark."""
        return valued(self.fees, self.other_fees, marks)

    def after(self, fill: Fill) -> Decimal:
        """The quantity that would be held after `fill`."""
        with exact_arithmetic():
            return self.quantity + position_change(fill)

    def apply(self, fill: Fill) -> bool:
        """Book one fill; False if it was booked before. Raises LedgerError for a fill of another symbol."""
        if fill.symbol != self.symbol:
            raise LedgerError(f"a fill of {fill.symbol} does not belong into the ledger of {self.symbol}")
        if fill.trade_id in self.seen:
            return False
        with exact_arithmetic():
            self._book(fill)
        self.seen[fill.trade_id] = None
        if len(self.seen) > SEEN_TRADES:
            del self.seen[next(iter(self.seen))]
        return True

    def end_trip(self) -> Trip | None:
        """The trip up to now, if it closed anything; the next fill begins another. What is left stays as lots."""
        trip = self.trip
        self.trip = None
        return trip if trip is not None and trip.quantity else None

    def _book(self, fill: Fill) -> None:
        when_ns = fill.ts_recv_ns if fill.ts_event_ns is None else fill.ts_event_ns
        change = position_change(fill)
        if self.trip is None:
            side = Side.BUY if (self.quantity or change) > 0 else Side.SELL
            self.trip = Trip(side=side, opened_ns=when_ns, closed_ns=when_ns)
        trip = self.trip
        trip.closed_ns = max(trip.closed_ns, when_ns)
        trip.trade_ids.append(fill.trade_id)
        # the venue rounds the money of a fill to its own digits: what it moved counts, not what we would have multiplied
        rounding = fill.side.sign * (fill.price * fill.quantity - fill.quote_quantity)
        self.realised += rounding
        trip.exit_value += rounding if trip.side is Side.BUY else -rounding
        self._book_fee(fill, trip)
        self.quantity += change
        rest = self._close_lots(change, fill.price, trip)
        if rest:
            self.lots.append(Lot(rest, fill.price, fill.trade_id, when_ns))

    def _close_lots(self, change: Decimal, price: Decimal, trip: Trip) -> Decimal:
        """Take `change` from the oldest lots of the other direction; returns what is left of it."""
        while change and self.lots and (self.lots[0].quantity > 0) is not (change > 0):
            lot = self.lots[0]
            closed = -change if abs(change) < abs(lot.quantity) else lot.quantity  # has the lot's sign
            self.realised += closed * (price - lot.price)
            trip.quantity += abs(closed)
            trip.entry_value += abs(closed) * lot.price
            trip.exit_value += abs(closed) * price
            lot.quantity -= closed
            change += closed
            if not lot.quantity:
                self.lots.pop(0)
        return change

    def _book_fee(self, fill: Fill, trip: Trip) -> None:
        base, quote = currencies(fill.symbol)
        if fill.fee_asset in (base, quote):
            paid = fill.fee if fill.fee_asset == quote else fill.fee * fill.price
            self.fees += paid
            trip.fees += paid
        elif fill.fee:
            for fees in (self.other_fees, trip.other_fees):
                fees[fill.fee_asset] = fees.get(fill.fee_asset, ZERO) + fill.fee


def currencies(symbol: str) -> tuple[str, str]:
    """The base currency, and the currency that money is counted in: the quote, or what a perpetual settles in."""
    parsed = Symbol.parse(symbol)
    return parsed.base, parsed.settle or parsed.quote


def position_change(fill: Fill) -> Decimal:
    """What a fill adds to the position in base currency: its quantity, less a fee that is taken in base currency."""
    with exact_arithmetic():
        change = fill.side.sign * fill.quantity
        return change - fill.fee if fill.fee_asset == currencies(fill.symbol)[0] else change


def balance_changes(fill: Fill) -> dict[str, Decimal]:
    """What a fill does to the balances of a spot account, by asset."""
    base, quote = currencies(fill.symbol)
    with exact_arithmetic():
        changes = {base: fill.side.sign * fill.quantity, quote: -fill.side.sign * fill.quote_quantity}
        changes[fill.fee_asset] = changes.get(fill.fee_asset, ZERO) - fill.fee
        return changes


def valued(money: Decimal, others: Mapping[str, Decimal], marks: Mapping[str, Decimal]) -> Decimal:
    """`money` plus amounts of other assets at `marks` (quote per unit); raises LedgerError when one has no mark."""
    missing = [asset for asset in others if asset not in marks]
    if missing:
        raise LedgerError(f"no price for {', '.join(missing)}: subscribe to its ticker to value fees paid in it")
    with exact_arithmetic():
        return sum((amount * marks[asset] for asset, amount in others.items()), money)
