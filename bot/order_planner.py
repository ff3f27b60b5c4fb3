"""Commands made of decisions: the same decision always gives the same command id."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal

from common_models import MarketEvent, OrderType, PlaceOrder, Side, TimeInForce

ENTRY, EXIT = 0, 1
"""Ordinals: one event moves a strategy to at most one entry and one exit."""


def command_id(mode: str, account: str, strategy: str, trigger_id: str, ordinal: int) -> str:
    """64 hex characters that follow from the decision alone: who decides it again after a crash arrives at the same id."""
    text = "\n".join((mode, account, strategy, trigger_id, str(ordinal)))
    return hashlib.sha256(text.encode()).hexdigest()


def order_mark(made_of: str) -> str:
    """The last 24 characters of the client order id that a connector gives to the order of this command id (DESIGN.md §5)."""
    return hashlib.sha256(made_of.encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class OrderPlanner:
    """Plans market orders, immediate or cancel: nothing of them stays behind. `order_ttl_ns` bounds their wait to be sent."""

    mode: str
    order_ttl_ns: int

    def plan(
        self,
        account: str,
        strategy: str,
        trigger: MarketEvent,
        side: Side,
        quantity: Decimal,
        now_ns: int,
        *,
        closes: bool,
        made_by: tuple[str, ...] = (),
    ) -> PlaceOrder:
        """The order that `trigger` caused. `closes` marks one that only reduces what is held; `made_by` are those behind it."""
        return PlaceOrder(
            correlation_id=trigger.correlation_id or trigger.message_id,
            command_id=command_id(self.mode, account, strategy, trigger.message_id, EXIT if closes else ENTRY),
            exchange=trigger.exchange,
            account=account,
            strategy=strategy,
            created_at_ns=now_ns,
            expires_at_ns=now_ns + self.order_ttl_ns,
            symbol=trigger.symbol,
            side=side,
            order_type=OrderType.MARKET,
            quantity=quantity,
            time_in_force=TimeInForce.IOC,
            reduce_only=closes,
            made_by=made_by,
            triggered_ns=trigger.ts_recv_ns,
        )
