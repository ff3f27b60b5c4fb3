"""The gates between a signal and an order. Each is a pure function of what it is handed, and says no with its numbers.

An answer is `ALLOWED` or a `Denied` with a stable code, CATEGORY_CONDITION, and the figures that it weighed: a silence can always
be explained. Ages are nanoseconds; money is quote currency.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from common_models import ConnectionState, Instrument, InstrumentStatus, OrderBook, PlaceOrder, Side, Ticker
from common_models.decimals import ZERO, plain
from common_models.timestamps import NS_PER_MS
from trading.decimal_context import exact_arithmetic
from trading.sizing import is_orderable


@dataclass(frozen=True, slots=True)
class Allowed:
    """The gate is open."""


@dataclass(frozen=True, slots=True)
class Denied:
    """The gate is shut: `code` for programs, `reason` for people, `numbers` what was compared, as text."""

    code: str
    reason: str
    numbers: dict[str, str] = field(default_factory=dict)


Answer = Allowed | Denied
ALLOWED = Allowed()


def first_denial(answers: Iterable[Answer]) -> Denied | None:
    """The first no, or None. Hand in a generator, and the gates behind the first no are not even asked."""
    return next((answer for answer in answers if isinstance(answer, Denied)), None)


def not_halted(halted_by: str | None) -> Answer:
    """The emergency stop is not pressed; `halted_by` says who pressed it and why."""
    return ALLOWED if halted_by is None else Denied("TRADING_HALTED", f"the emergency stop is pressed: {halted_by}")


def not_paused(paused_by: str | None) -> Answer:
    """New entries are not paused; `paused_by` says who paused them and why."""
    return ALLOWED if paused_by is None else Denied("ENTRIES_PAUSED", f"no new entries: {paused_by}")


def venue_ready(state: ConnectionState | None, reason: str = "") -> Answer:
    """The connector takes orders; None is a connector that has not said anything."""
    if state is None or state is ConnectionState.CONNECTED:
        return ALLOWED
    return Denied("VENUE_NOT_READY", f"the connector's order entry is {state.value}: {reason}", {"state": state.value})


def event_fresh(age_ns: int, limit_ns: int) -> Answer:
    """The event that moved us is young enough to act on."""
    if age_ns <= limit_ns:
        return ALLOWED
    return Denied("EVENT_STALE", "the event is too old to act on", _ages(age_ns, limit_ns))


def quote_usable(ticker: Ticker | None, age_ns: int, limit_ns: int) -> Answer:
    """There is a fresh best bid and offer that are not crossed."""
    if ticker is None:
        return Denied("QUOTE_MISSING", "no best bid and offer has been seen yet")
    prices = {"bid": plain(ticker.bid_price), "ask": plain(ticker.ask_price)}
    if ticker.crossed or ticker.bid_price <= 0 or ticker.ask_price <= 0:
        return Denied("QUOTE_CROSSED", "the best bid is not below the best offer, or one is missing", prices)
    if age_ns > limit_ns:
        return Denied("QUOTE_STALE", "the best bid and offer are too old", prices | _ages(age_ns, limit_ns))
    return ALLOWED


def book_usable(book: OrderBook | None) -> Answer:
    """The book, where one is followed, is whole and not crossed."""
    if book is None:
        return ALLOWED
    if not book.valid:
        return Denied("BOOK_INVALID", "the order book is being put together again", {"sequence": str(book.sequence)})
    if book.crossed:
        return Denied("BOOK_CROSSED", "the order book is crossed", {"sequence": str(book.sequence)})
    return ALLOWED


def instrument_open(instrument: Instrument | None) -> Answer:
    """The market's rules are known, and it is open."""
    if instrument is None:
        return Denied("INSTRUMENT_UNKNOWN", "the rules of this market have not been seen yet")
    if instrument.status is not InstrumentStatus.TRADING:
        return Denied("INSTRUMENT_CLOSED", "the market does not take orders", {"status": instrument.status.value})
    return ALLOWED


def position_flat(quantity: Decimal, *, holds: bool) -> Answer:
    """Nothing is held that could be sold; `holds` is False for dust."""
    return Denied("POSITION_OPEN", "a position is open already", {"quantity": plain(quantity)}) if holds else ALLOWED


def nothing_in_flight(command_ids: Iterable[str]) -> Answer:
    """No order of ours is undecided in this market: sent, resting or UNKNOWN."""
    ids = [command_id[:12] for command_id in command_ids]
    return Denied("ORDER_IN_FLIGHT", "an order is not decided yet", {"commands": ",".join(ids)}) if ids else ALLOWED


def below_max_trades(open_trades: int, limit: int) -> Answer:
    """Fewer trades are open than allowed at the same time; one that is on its way counts."""
    if open_trades < limit:
        return ALLOWED
    return Denied("TRADES_AT_LIMIT", "as many trades are open as allowed", {"open": str(open_trades), "limit": str(limit)})


def cooled_down(since_ns: int | None, cooldown_ns: int) -> Answer:
    """Long enough since the last order in this market; None is never."""
    if since_ns is None or since_ns >= cooldown_ns:
        return ALLOWED
    return Denied("COOLDOWN_RUNNING", "too soon after the last order here", _ages(since_ns, cooldown_ns))


def order_large_enough(quantity: Decimal, price: Decimal, instrument: Instrument) -> Answer:
    """The order is no smaller than the venue takes."""
    if is_orderable(quantity, price, instrument):
        return ALLOWED
    with exact_arithmetic():
        notional = quantity * price
    return Denied(
        "NOTIONAL_TOO_SMALL",
        "the order is smaller than the venue takes",
        {
            "quantity": plain(quantity),
            "notional": _shown(notional),
            "min_quantity": plain(instrument.min_quantity),
            "min_notional": plain(instrument.min_notional),
        },
    )


def balance_suffices(free: Decimal | None, reserved: Decimal, needed: Decimal) -> Answer:
    """`needed` is free after all that orders on their way may still take; None is a balance that was never told."""
    if free is None:
        return Denied("BALANCE_UNKNOWN", "the balance of the quote currency has not been told yet")
    with exact_arithmetic():
        available = free - reserved
    if needed <= available:
        return ALLOWED
    numbers = {"free": _shown(free), "reserved": _shown(reserved), "needed": _shown(needed)}
    return Denied("BALANCE_INSUFFICIENT", "not enough of the quote currency is free", numbers)


def reserved_money(orders: Iterable[tuple[PlaceOrder, Decimal, Decimal]]) -> Decimal:
    """What undecided buys may still take, in quote currency: (order, quantity filled so far, price to expect).

    An UNKNOWN order counts like any other that is not over: until there is evidence its whole exposure stays reserved.
    """
    with exact_arithmetic():
        return sum(
            ((order.quantity - filled) * (order.price or price) for order, filled, price in orders if order.side is Side.BUY), ZERO
        )


def _ages(age_ns: int, limit_ns: int) -> dict[str, str]:
    return {"age_ms": str(age_ns // NS_PER_MS), "limit_ms": str(limit_ns // NS_PER_MS)}


def _shown(number: Decimal) -> str:
    return plain(round(number, 8))
