"""The state of one order: a pure function of the set of facts known about it, whatever the order of their arrival.

Every fact only adds to what is known (`Knowledge.add` is commutative, associative and idempotent), and `state_of` reads the
state off that knowledge by one rule of precedence: what executed beats what was said, life beats death, evidence beats doubt.
Hence an answer after a time-out, a fill before its order's acknowledgement, a fill after the cancel and everything twice all end in
the same state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from typing import TypeVar

import msgspec

from common_models import Liquidity, OrderStatus, OrderType, PlaceOrder, Side, TimeInForce
from common_models.decimals import ZERO
from trading.decimal_context import exact_context

_EXACT = exact_context()

K = TypeVar("K")
F = TypeVar("F", bound="FactBase")


class OrderTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked for. `quantity` in base, prices in quote per base currency."""

    symbol: str
    side: Side
    order_type: OrderType
    quantity: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    reduce_only: bool = False

    @classmethod
    def of(cls, command: PlaceOrder) -> OrderTerms:
        return cls(
            symbol=command.symbol,
            side=command.side,
            order_type=command.order_type,
            quantity=command.quantity,
            price=command.price,
            stop_price=command.stop_price,
            time_in_force=command.time_in_force,
            reduce_only=command.reduce_only,
        )


class FactBase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="fact"):
    """Something that became known about one order, and stays true."""


class Attempted(FactBase, frozen=True, kw_only=True, tag="attempted"):
    """A request was about to leave (recorded before its first byte). After `deadline_ns` (venue time) the venue refuses it."""

    attempt: int
    deadline_ns: int
    epoch: int = 0
    timestamp_ms: int = 0
    way: str = ""


class Doubted(FactBase, frozen=True, kw_only=True, tag="doubted"):
    """The attempt may have executed: an exception after the first byte, a time-out, a restart in between."""

    attempt: int
    reason: str


class Refuted(FactBase, frozen=True, kw_only=True, tag="refuted"):
    """Proof that the attempt did not and will not execute.

    `final` says that no other will be made: the venue said no, or a complete search after the deadline found nothing. A refuted
    attempt that is not final (a refused time stamp) leaves the order where it was before.
    """

    attempt: int
    code: str
    reason: str
    final: bool


class Closed(FactBase, frozen=True, kw_only=True, tag="closed"):
    """Decided here before any byte left: REJECTED or EXPIRED."""

    status: OrderStatus
    code: str
    reason: str


class Reported(FactBase, frozen=True, kw_only=True, tag="reported"):
    """What the venue says of the order: evidence that it exists. Quantities are cumulative.

    `at_ns` is the venue's clock, 0 when it did not say.
    """

    status: OrderStatus
    at_ns: int
    exchange_order_id: str = ""
    filled_quantity: Decimal = ZERO
    filled_quote: Decimal = ZERO
    code: str = ""
    reason: str = ""


class Executed(FactBase, frozen=True, kw_only=True, tag="executed"):
    """One fill, known by `trade_id`. `at_ns` is the venue's clock; the fee is positive when paid."""

    trade_id: str
    price: Decimal
    quantity: Decimal
    quote_quantity: Decimal
    fee: Decimal
    fee_asset: str
    liquidity: Liquidity
    at_ns: int
    exchange_order_id: str = ""


class Escalated(FactBase, frozen=True, kw_only=True, tag="escalated"):
    """Asking cannot decide it any more (the venue has forgotten so old an order): a person must look."""

    reason: str


Fact = Attempted | Doubted | Refuted | Closed | Reported | Executed | Escalated

_ENDS = (OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED)
"""Ends that a venue reports, the stronger first: an order that is both filled and cancelled was filled."""


class Knowledge(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All facts about one order, joined. It is also the compact form in which a finished order is kept."""

    attempts: dict[int, Attempted] = {}
    doubts: dict[int, Doubted] = {}
    refutations: dict[int, Refuted] = {}
    closed: Closed | None = None
    reports: dict[OrderStatus, Reported] = {}
    executions: dict[str, Executed] = {}
    exchange_order_ids: set[str] = set()
    escalated: Escalated | None = None

    def add(self, fact: Fact) -> bool:
        """Take in one fact; returns whether anything new was learned."""
        match fact:
            case Attempted():
                new = _keep_least(self.attempts, fact.attempt, fact)
            case Doubted():
                new = _keep_least(self.doubts, fact.attempt, fact)
            case Executed():
                new = self._note_id(fact.exchange_order_id) | _keep_least(self.executions, fact.trade_id, fact)
            case Reported():
                new = self._note_id(fact.exchange_order_id) | self._add_reported(fact)
            case Refuted():
                new = self._add_refuted(fact)
            case Closed():
                new = self._add_closed(fact)
            case Escalated():
                new = self.escalated is None or fact.reason < self.escalated.reason
                self.escalated = fact if new else self.escalated
        return new

    @property
    def alive(self) -> bool:
        """Whether there is evidence that the order exists, or existed, at the venue."""
        return bool(self.reports or self.executions)

    @property
    def unsettled_attempts(self) -> list[int]:
        """Attempts that left and were neither answered nor proved dead."""
        return [number for number in self.attempts if number not in self.refutations]

    @property
    def deadline_ns(self) -> int:
        """The venue refuses every attempt after this instant of its clock; 0 before the first."""
        return max((attempt.deadline_ns for attempt in self.attempts.values()), default=0)

    def _add_refuted(self, fact: Refuted) -> bool:
        held = self.refutations.get(fact.attempt)
        if held is None or (not fact.final, fact.code, fact.reason) < (not held.final, held.code, held.reason):
            self.refutations[fact.attempt] = fact
            return True
        return False

    def _add_closed(self, fact: Closed) -> bool:
        if self.closed is None or (fact.status, fact.code, fact.reason) < (
            self.closed.status,
            self.closed.code,
            self.closed.reason,
        ):
            self.closed = fact
            return True
        return False

    def _add_reported(self, fact: Reported) -> bool:
        """Of each status the report with the most filled is kept, then the earliest."""
        held = self.reports.get(fact.status)
        if held is None or _report_rank(fact) < _report_rank(held):
            self.reports[fact.status] = fact
            return True
        return False

    def _note_id(self, exchange_order_id: str) -> bool:
        if not exchange_order_id or exchange_order_id in self.exchange_order_ids:
            return False
        self.exchange_order_ids.add(exchange_order_id)
        return True


@dataclass(frozen=True, slots=True)
class OrderState:
    """What follows from the facts.

    `open_quantity` may still execute: so much exposure stays reserved (all that is not filled while UNKNOWN). `fills_missing` says
    that the venue counts more filled than the fills that we have seen.
    """

    status: OrderStatus
    filled_quantity: Decimal = ZERO
    filled_quote: Decimal = ZERO
    open_quantity: Decimal = ZERO
    exchange_order_id: str = ""
    code: str = ""
    reason: str = ""
    fills_missing: bool = False
    operator_review: bool = False


def order_state(terms: OrderTerms, facts: Iterable[Fact]) -> OrderState:
    """The state that a set of facts means."""
    knowledge = Knowledge()
    for fact in facts:
        knowledge.add(fact)
    return state_of(terms, knowledge)


def state_of(terms: OrderTerms, knowledge: Knowledge) -> OrderState:
    """Read the state off what is known."""
    filled, quote, missing = _filled(knowledge)
    status, code, reason = _status(terms, knowledge, filled)
    ids = knowledge.exchange_order_ids
    return OrderState(
        status=status,
        filled_quantity=filled,
        filled_quote=quote,
        open_quantity=ZERO if status.terminal else max(ZERO, terms.quantity - filled),
        exchange_order_id=min(ids, key=lambda text: (len(text), text)) if ids else "",
        code=code,
        reason=reason,
        fills_missing=missing,
        # two venue orders under one client order id must never be; a person has to see it
        operator_review=len(ids) > 1 or (status is OrderStatus.UNKNOWN and knowledge.escalated is not None),
    )


def _status(terms: OrderTerms, known: Knowledge, filled: Decimal) -> tuple[OrderStatus, str, str]:
    """Status, code and reason. The order of the tests is the rule of precedence."""
    if known.alive:
        return _status_seen(terms, known, filled)
    unsettled = known.unsettled_attempts
    if unsettled:
        return _status_in_flight(known, unsettled)
    if known.closed is not None:
        return known.closed.status, known.closed.code, known.closed.reason
    for number in sorted(known.refutations):
        if known.refutations[number].final:
            return OrderStatus.REJECTED, known.refutations[number].code, known.refutations[number].reason
    return OrderStatus.INTENT, "", ""


def _status_seen(terms: OrderTerms, known: Knowledge, filled: Decimal) -> tuple[OrderStatus, str, str]:
    """The venue has, or had, the order."""
    if terms.quantity and filled >= terms.quantity:
        return OrderStatus.FILLED, "", ""
    for end in _ENDS:
        if end in known.reports:
            return end, known.reports[end].code, known.reports[end].reason
    return (OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.OPEN), "", ""


def _status_in_flight(known: Knowledge, unsettled: list[int]) -> tuple[OrderStatus, str, str]:
    """Something left and nothing is known of it: in doubt, or just waiting for the answer."""
    for number in sorted(unsettled):
        if number in known.doubts:
            return OrderStatus.UNKNOWN, "", known.escalated.reason if known.escalated else known.doubts[number].reason
    return OrderStatus.SENT, "", ""


def _filled(known: Knowledge) -> tuple[Decimal, Decimal, bool]:
    """Base and quote filled, and whether the venue's cumulative figure shows fills that we have not seen yet."""
    base = reduce(_EXACT.add, (fill.quantity for fill in known.executions.values()), ZERO)
    quote = reduce(_EXACT.add, (fill.quote_quantity for fill in known.executions.values()), ZERO)
    if known.reports:
        said, said_quote = max((report.filled_quantity, report.filled_quote) for report in known.reports.values())
        if said > base:
            return said, said_quote, True
    return base, quote, False


def _report_rank(report: Reported) -> tuple[Decimal, Decimal, int, str, str]:
    return (-report.filled_quantity, -report.filled_quote, report.at_ns, report.code, report.reason)


def _keep_least(held: dict[K, F], key: K, fact: F) -> bool:
    """Keep one fact per key; of two that differ (two sources tell it in different words) always the same one."""
    present = held.get(key)
    if present is None or (fact != present and msgspec.json.encode(fact) < msgspec.json.encode(present)):
        held[key] = fact
        return True
    return False
