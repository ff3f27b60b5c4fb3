"""Which positions are open: the rest of a sale that no order can sell is dust, and nothing to look after."""

from __future__ import annotations

from common_models import Instrument, Position
from trading.sizing import closable_quantity


def state_of(position: Position, rules: Instrument | None) -> str:
    """`open`, `closed` (nothing is held), or `dust`: less than the rules of the market let one order sell at the present price."""
    if not position.quantity:
        return "closed"
    price = position.mark_price or (abs(position.cost / position.quantity))
    if rules is not None and not closable_quantity(abs(position.quantity), price, rules):
        return "dust"
    return "open"


def is_open(position: Position, rules: Instrument | None) -> bool:
    """Whether there is something to sell; without the market's rules anything counts."""
    return state_of(position, rules) == "open"
