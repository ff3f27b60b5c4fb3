"""What is held, apart from what is too small to be sold: the rest that fees leave is no position to people."""

from __future__ import annotations

from dataclasses import dataclass

from common_models import Position
from postgres import queries
from trading.sizing import closable_quantity


@dataclass(frozen=True, slots=True)
class Holdings:
    """Positions that one could close, and those that no order could."""

    held: list[Position]
    dust: list[Position]


async def read_holdings(source: queries.Source) -> Holdings:
    """The positions that are not flat. One whose market has no known rules or price counts as held."""
    positions = [position for position in await queries.positions(source) if position.quantity]
    rules = {
        (rule.exchange, rule.symbol): rule
        for exchange in sorted({position.exchange for position in positions})
        for rule in await queries.instruments(source, exchange)
    }
    holdings = Holdings([], [])
    for position in positions:
        rule, price = rules.get((position.exchange, position.symbol)), position.mark_price
        closable = rule is None or price is None or closable_quantity(abs(position.quantity), price, rule)
        (holdings.held if closable else holdings.dust).append(position)
    return holdings
