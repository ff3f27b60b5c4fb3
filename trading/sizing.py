"""How much: quantities that fit the budget and the rules of the market, always rounded toward less risk."""

from __future__ import annotations

from decimal import Decimal

from common_models import Instrument
from common_models.decimals import ZERO
from trading.decimal_context import exact_arithmetic, rounded_down

HUNDRED = Decimal(100)


def budget(equity: Decimal, percentage: Decimal) -> Decimal:
    """`percentage` percent of `equity`, exactly."""
    with exact_arithmetic():
        return equity * percentage * Decimal("0.01")


def market_step(instrument: Instrument) -> Decimal:
    """The step of a market order's quantity: the coarser of the two that venues have (each divides the other)."""
    return max(instrument.quantity_step, instrument.market_quantity_step or ZERO)


def affordable_quantity(money: Decimal, price: Decimal, instrument: Instrument) -> Decimal:
    """The most that `money` buys at `price`, in whole steps and within the largest allowed order; may be below the minimum."""
    step = market_step(instrument)
    if price <= 0 or money <= 0 or step <= 0:
        return ZERO
    with exact_arithmetic():
        return _capped((money // (price * step)) * step, instrument)


def closable_quantity(held: Decimal, price: Decimal, instrument: Instrument) -> Decimal:
    """How much of `held` (not negative) one market order can close; zero if what is left is dust.

    Dust is less than a step, than the smallest order, or worth less than the smallest notional at `price`.
    """
    step = market_step(instrument)
    quantity = rounded_down(held, step) if step else held
    with exact_arithmetic():
        quantity = _capped(quantity, instrument)
        return quantity if is_orderable(quantity, price, instrument) else ZERO


def is_orderable(quantity: Decimal, price: Decimal, instrument: Instrument) -> bool:
    """Whether the venue takes an order of `quantity` at `price`: no smaller than its minima."""
    with exact_arithmetic():
        return quantity > 0 and quantity >= instrument.min_quantity and quantity * price >= instrument.min_notional


def _capped(quantity: Decimal, instrument: Instrument) -> Decimal:
    caps = [cap for cap in (instrument.max_quantity, instrument.max_market_quantity) if cap]
    largest = min([quantity, *caps])
    step = market_step(instrument)
    return rounded_down(largest, step) if step else largest
