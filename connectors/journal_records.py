"""The records of an account's journal: what each line of the file says.

Fields may be added with a default, never renamed or given another meaning: the next version must read today's file.
"""

from __future__ import annotations

from functools import cached_property

import msgspec

from common_models import AmendOrder, CancelAll, CancelOrder, PlaceOrder
from trading.order_state import Fact, Knowledge, OrderState, OrderTerms, state_of

OtherCommand = CancelOrder | CancelAll | AmendOrder
"""Commands that are no new orders."""


class WireRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request in the venue's own words, complete but for time stamp and signature. `weight` is its price in the rate budget."""

    method: str
    params: dict[str, str]
    weight: int = 1
    orders: int = 0


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="record"):
    """One line of the file."""


class AcceptedOrder(Record, frozen=True, tag="order"):
    """INTENT: the whole command and the exact request, before its first byte."""

    client_order_id: str
    command: PlaceOrder
    request: WireRequest | None
    at_ns: int
    epoch: int


class AcceptedCommand(Record, frozen=True, tag="command"):
    """INTENT of a command that is no order."""

    command: OtherCommand
    at_ns: int
    epoch: int


class Answered(Record, frozen=True, tag="answered"):
    """The end of a command that is no order."""

    command_id: str
    code: str
    reason: str


class Learned(Record, frozen=True, tag="fact"):
    """A new fact about an order."""

    client_order_id: str
    fact: Fact


class Published(Record, frozen=True, tag="published"):
    """The bus has these orders' facts up to these revisions."""

    bus_epoch: str
    revisions: dict[str, int]


class Forgot(Record, frozen=True, tag="forgot"):
    """Finished orders whose commands expired up to this time have been dropped."""

    until_ns: int


class TradesSeen(Record, frozen=True, tag="trades_seen"):
    """All fills of a symbol up to this trade id are in here, or older than this installation."""

    symbol: str
    trade_id: int


class TrackedOrder(msgspec.Struct, kw_only=True, omit_defaults=True, dict=True, tag_field="record", tag="tracked"):
    """One order with everything known of it. Also the record of an order in a rotated file, and of an external order.

    `command` is None for an order that we did not send (or whose command is forgotten). `revision` counts the facts.
    """

    client_order_id: str
    terms: OrderTerms
    command: PlaceOrder | None = None
    request: WireRequest | None = None
    external: bool = False
    knowledge: Knowledge = msgspec.field(default_factory=Knowledge)
    revision: int = 0
    published: int = 0
    accepted_ns: int = 0
    finished_ns: int = 0

    @cached_property
    def state(self) -> OrderState:
        """What the facts mean; asked for several times between two facts."""
        return state_of(self.terms, self.knowledge)

    def add(self, fact: Fact) -> bool:
        """Take in a fact; False when it was known."""
        self.__dict__.pop("state", None)
        return self.knowledge.add(fact)

    @property
    def next_attempt(self) -> int:
        return max(self.knowledge.attempts, default=0) + 1

    @property
    def sent_ns(self) -> int:
        """When the first request could have left, our clock; 0 when none did."""
        return self.accepted_ns if self.knowledge.attempts else 0


AnyRecord = AcceptedOrder | AcceptedCommand | Answered | Learned | Published | Forgot | TradesSeen | TrackedOrder
