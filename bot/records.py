"""What the bot must not forget: the records of its durable state. Everything else is read from the bus again."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from common_models import Balance, Fill, OrderStatus, PlaceOrder
from common_models.decimals import ZERO
from trading.ledger import Ledger

STRATEGY = "consensus"
"""The plugins decide together, so that positions and orders belong to all of them (ADR 7)."""


class PositionKey(NamedTuple):
    """Whose position it is."""

    exchange: str
    account: str
    strategy: str
    symbol: str


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="record"):
    """One fact. Applying all records in order gives the state."""


class CommandDecided(Record, frozen=True, kw_only=True, tag="decided"):
    """An order was decided; written before it goes to the bus. `expected_price` is what a market order reckons with.

    `exit_reason` is empty for an entry.
    """

    command: PlaceOrder
    expected_price: Decimal
    exit_reason: str = ""


class CommandEnded(Record, frozen=True, kw_only=True, tag="ended"):
    """The connector said how it ended. The order is over once fills of `filled_quantity` were applied."""

    command_id: str
    status: OrderStatus
    filled_quantity: Decimal
    at_ns: int


class FillApplied(Record, frozen=True, kw_only=True, tag="fill"):
    """A fill of `strategy`; `ends_trip` when only dust remains after it."""

    fill: Fill
    strategy: str
    ends_trip: bool = False


class BalanceTold(Record, frozen=True, kw_only=True, tag="balance"):
    """The newest balance of one asset."""

    balance: Balance


class OrderState(msgspec.Struct, kw_only=True):
    """An order that is not over. `status` is None until the connector answered."""

    decided: CommandDecided
    status: OrderStatus | None = None
    filled_quantity: Decimal = ZERO  # of the fills that were applied
    final_quantity: Decimal | None = None  # what the terminal update said

    @property
    def over(self) -> bool:
        """Ended, and all its fills were seen: they come by another stream and may be later than the end."""
        return self.final_quantity is not None and self.filled_quantity >= self.final_quantity


class Snapshot(Record, frozen=True, kw_only=True, tag="snapshot"):
    """The whole state at one moment, in place of all records before it."""

    ledgers: list[tuple[PositionKey, Ledger]]
    orders: list[OrderState]
    balances: list[Balance]
    decided_ids: list[str]
    exit_reasons: list[tuple[PositionKey, str]]
    last_order_ns: list[tuple[PositionKey, int]]
    wanted_by: list[tuple[PositionKey, tuple[str, ...]]] = []


AnyRecord = CommandDecided | CommandEnded | FillApplied | BalanceTold | Snapshot
