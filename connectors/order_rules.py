"""What a market allows, checked before anything is sent: nothing is rounded here, a wrong order is refused with its reason."""

from __future__ import annotations

from decimal import Decimal

from common_models import Instrument, InstrumentStatus, OrderType, PlaceOrder, Side, Symbol, TimeInForce

Violation = tuple[str, str]
"""A code and a sentence."""


def violation(command: PlaceOrder, instrument: Instrument | None) -> Violation | None:
    """The first rule that an order breaks, or None."""
    if instrument is None:
        return "UNKNOWN_SYMBOL", f"{command.symbol} is not among the instruments of {command.exchange}"
    if instrument.status is not InstrumentStatus.TRADING:
        return "MARKET_CLOSED", f"{command.symbol} is {instrument.status.value}"
    return (
        _bad_form(command)
        or _bad_quantity(command, instrument)
        or _bad_price(command, instrument)
        or _bad_notional(command, instrument)
    )


def _bad_form(command: PlaceOrder) -> Violation | None:
    """Fields that contradict each other or are missing."""
    needs_price = command.order_type is not OrderType.MARKET
    needs_stop = command.order_type is OrderType.STOP_LIMIT
    if needs_price != (command.price is not None):
        return "BAD_PRICE", f"a {command.order_type.value} order {'needs a' if needs_price else 'takes no'} price"
    if needs_stop != (command.stop_price is not None):
        return "BAD_STOP_PRICE", f"a {command.order_type.value} order {'needs a' if needs_stop else 'takes no'} stop price"
    if command.post_only and (command.order_type is not OrderType.LIMIT or command.time_in_force is not TimeInForce.GTC):
        return "BAD_POST_ONLY", "only a limit order that is good till cancelled can be post-only"
    if command.reduce_only and command.side is Side.BUY and not Symbol.parse(command.symbol).settle:
        return "BAD_REDUCE_ONLY", "on a spot market only a sale reduces"
    return None


def _bad_quantity(command: PlaceOrder, instrument: Instrument) -> Violation | None:
    market = command.order_type is OrderType.MARKET
    step = (instrument.market_quantity_step if market else None) or instrument.quantity_step
    largest = (instrument.max_market_quantity if market else None) or instrument.max_quantity
    quantity = command.quantity
    if quantity <= 0:
        return "BAD_QUANTITY", f"quantity {quantity} is not positive"
    if not _on_grid(quantity, step):
        return "BAD_QUANTITY", f"quantity {quantity} is not a multiple of {step}"
    if quantity < instrument.min_quantity:
        return "BAD_QUANTITY", f"quantity {quantity} is below the minimum {instrument.min_quantity}"
    if largest is not None and quantity > largest:
        return "BAD_QUANTITY", f"quantity {quantity} is above the maximum {largest}"
    return None


def _bad_price(command: PlaceOrder, instrument: Instrument) -> Violation | None:
    for name, price in (("price", command.price), ("stop price", command.stop_price)):
        if price is None:
            continue
        if price <= 0 or not _on_grid(price, instrument.price_tick):
            return "BAD_PRICE", f"{name} {price} is not a positive multiple of {instrument.price_tick}"
        if instrument.min_price is not None and price < instrument.min_price:
            return "BAD_PRICE", f"{name} {price} is below the minimum {instrument.min_price}"
        if instrument.max_price is not None and price > instrument.max_price:
            return "BAD_PRICE", f"{name} {price} is above the maximum {instrument.max_price}"
    return None


def _bad_notional(command: PlaceOrder, instrument: Instrument) -> Violation | None:
    if command.price is None:
        return None  # what a market order costs, only the venue knows
    notional = command.price * command.quantity
    if notional < instrument.min_notional:
        return "BAD_NOTIONAL", f"{notional} {instrument.quote} is below the minimum {instrument.min_notional}"
    if instrument.max_notional is not None and notional > instrument.max_notional:
        return "BAD_NOTIONAL", f"{notional} {instrument.quote} is above the maximum {instrument.max_notional}"
    return None


def _on_grid(value: Decimal, step: Decimal) -> bool:
    return not step or value % step == 0
