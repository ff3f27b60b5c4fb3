"""One command in, exactly one outcome out.

The way of an order, without an await from receipt to write: known already? expired? allowed by the market's rules and by the gate?
Then INTENT into the journal, SENT into the journal (durably), one last look at stop and lease, and the bytes leave. The command is
acknowledged on the bus when `handle` returns, so never before it is journalled. Nothing is ever sent again by itself, with one
exception: a refused time stamp proves that nothing was executed. Any other exception after the first byte means UNKNOWN,
which only evidence ends (`reconcile.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from bus.interfaces import Delivery, Retry, Unacceptable
from common_models import AlertLevel, AmendOrder, CancelAll, CancelOrder, Gap, Instrument, Message, OrderStatus, PlaceOrder
from common_models.timestamps import NS_PER_MS, NS_PER_S
from connectors.cancels import Cancels, expired
from connectors.errors import (
    AnswerLost,
    AuthError,
    BadResponse,
    ClockRefused,
    DuplicateOrder,
    ExchangeError,
    NotSent,
    OrderOutcomeUnknown,
    OrderRejected,
    RateLimited,
    TransientError,
)
from connectors.journal_records import TrackedOrder, WireRequest
from connectors.order_entry import OrderReport
from connectors.order_parts import OrderParts
from connectors.order_rules import violation
from connectors.order_times import OrderTimes
from connectors.rate_budget import Lane
from connectors.send_gate import Refusal
from connectors.task_pool import PoolFull
from runtime.clock import now_ns
from runtime.crash_points import crash_point
from trading.order_state import Attempted, Closed, Doubted, Fact, Refuted, Reported

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 2
"""The first, and one more after a refused time stamp."""

_IDENTITY = {
    "message_id": "", "causation_id": "", "correlation_id": "", "ts_pub_ns": 0, "schema_version": 1,
    "created_at_ns": 0, "expires_at_ns": 0, "triggered_ns": 0,
}  # fmt: skip
"""What may differ between two copies of the same command: a bot that died decides it again, later."""


@dataclass(slots=True)
class GatewayCounters:
    """Plain numbers for the metrics."""

    commands: int = 0
    duplicates: int = 0
    conflicts: int = 0
    sent: int = 0
    doubted: int = 0
    second_way: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Orders that ended unsent or refused: by our own code, or `venue` for whatever code the venue gave."""


class OrderGateway:
    """Carries out the commands of one account."""

    def __init__(self, parts: OrderParts) -> None:
        self._entry = parts.entry
        self._ledger = parts.ledger
        self._journal = parts.ledger.journal
        self._gate = parts.gate
        self._budget = parts.budget
        self._instruments = parts.instruments
        self._pool = parts.pool
        self._epoch = parts.epoch
        self._look = parts.look
        self._times = OrderTimes(parts.ledger.name.exchange)
        self._cancels = Cancels(parts)
        self.counters = GatewayCounters()

    async def handle(self, deliveries: Sequence[Delivery]) -> None:
        """Take commands from the bus, in order; returning acknowledges them. Raises Retry while this process may not write."""
        for delivery in deliveries:
            if not self._gate.writer:
                raise Retry("the account's lease is not held")
            try:
                self.take(delivery.message)
            except OSError as error:
                raise Retry(f"the journal cannot be written: {error}") from error
        crash_point("before-ack")

    def take(self, message: Message) -> None:
        """Carry out one command, or begin to; raises Unacceptable for what is no command for this account."""
        if isinstance(message, Gap):
            text = f"{message.count or 'some'} commands were trimmed from the bus before they were read: {message.reason}"
            self._ledger.alert(AlertLevel.CRITICAL, "COMMANDS_LOST", text)
            return
        if not isinstance(message, PlaceOrder | CancelOrder | CancelAll | AmendOrder):
            raise Unacceptable(f"not a command: {type(message).__name__}")
        name = self._ledger.name
        if (message.exchange, message.account) != (name.exchange, name.account):
            theirs, ours = f"{message.exchange[:40]}/{message.account[:40]}", f"{name.exchange}/{name.account}"
            raise Unacceptable(f"a command for {theirs} in the stream of {ours}")
        self.counters.commands += 1
        if isinstance(message, PlaceOrder):
            self._place(message)
        else:
            self._cancels.take(message)

    def resume(self) -> None:
        """After reconciliation: carry on with what was accepted and never sent, as far as it has not expired."""
        for order in self._journal.unfinished:
            if order.state.status is OrderStatus.INTENT and order.command is not None:
                self._send(order, order.command)
        self._cancels.resume()

    # placing

    def _place(self, command: PlaceOrder) -> None:
        client_order_id = self._ledger.ids.of(command.command_id)
        known = self._journal.orders.get(client_order_id)
        if known is not None:
            self._answer_again(known, command)
            return
        if command.expires_at_ns <= self._journal.forgot_until_ns:
            raise Unacceptable(f"command {command.command_id} expired long ago and its end is not in the journal any more")
        instrument = self._instruments().get(command.symbol)
        refusal = self._refusal(command, instrument)
        request: WireRequest | None = None
        if refusal is None and instrument is not None:
            try:
                request = self._entry.place(command, client_order_id, instrument)
            except OrderRejected as error:
                refusal = (error.code, error.detail)
        order = self._journal.accept_order(client_order_id, command, request, self._epoch)
        crash_point("after-intent")
        if refusal is not None:
            self._refuse(order, refusal)
        else:
            self._send(order, command)

    def _refusal(self, command: PlaceOrder, instrument: Instrument | None) -> Refusal | None:
        """Why the command cannot become an order, whatever the gate says when it is sent."""
        if expired(command):
            return "EXPIRED_LOCALLY", "the command arrived after its expiry"
        broken = violation(command, instrument)
        if broken is None and not command.reduce_only and self._ledger.has_unknown(command.symbol):
            return "UNKNOWN_EXPOSURE", f"another order in {command.symbol} is UNKNOWN; nothing is added until that is settled"
        return broken

    def _answer_again(self, order: TrackedOrder, command: PlaceOrder) -> None:
        """The command id is known: the same body gets the same result again, another body is a conflict."""
        if order.command is None or same_command(order.command, command):
            self.counters.duplicates += 1
            if order.state.status is OrderStatus.INTENT and not order.knowledge.attempts and order.command is not None:
                self._send(order, order.command)  # the disk refused to record SENT, so it was handed back to the bus
                return
            self._ledger.say(order, cause=command)
            return
        self.counters.conflicts += 1
        reason = f"command {command.command_id} was accepted before with other contents; nothing was done"
        self._ledger.say(order, cause=command, code="CONFLICT", reason=reason)
        self._ledger.alert(AlertLevel.ERROR, "COMMAND_CONFLICT", reason, order)

    def _refuse(self, order: TrackedOrder, refusal: Refusal, attempt: int | None = None) -> None:
        """End an order of which no byte left (`attempt` was recorded as SENT before that was known)."""
        code, reason = refusal
        self.counters.rejected[code] += 1
        status = OrderStatus.EXPIRED if code == "EXPIRED_LOCALLY" else OrderStatus.REJECTED
        facts: list[Fact] = [] if attempt is None else [Refuted(attempt=attempt, code=code, reason=reason, final=False)]
        facts.append(Closed(status=status, code=code, reason=reason))
        self._ledger.learn(order, facts, cause=order.command)

    def _send(self, order: TrackedOrder, command: PlaceOrder) -> None:
        """Send an accepted order now; everything up to the write happens within this call."""
        request = order.request
        refusal = self._gate.refusal(reduces=command.reduce_only)
        if expired(command):
            refusal = ("EXPIRED_LOCALLY", "the command expired before it could be sent")
        if request is None:
            refusal = ("NOT_SENDABLE", "the journal has no request for it")
        if refusal is None and request is not None:
            try:
                self._budget.take_now(request.weight, Lane.ORDER, orders=request.orders)
            except RateLimited as error:
                refusal = ("RATE_LIMITED", error.detail)
        if refusal is not None or request is None:
            self._refuse(order, refusal or ("NOT_SENDABLE", ""))
            return
        attempt, timestamp_ms = order.next_attempt, self._entry.clock.now_ms()
        deadline_ns = timestamp_ms * NS_PER_MS + int(self._entry.recv_window_s * NS_PER_S)
        self._journal.about_to_send(
            order, Attempted(attempt=attempt, deadline_ns=deadline_ns, epoch=self._epoch, timestamp_ms=timestamp_ms)
        )
        crash_point("after-sent")
        self._write(order, command, request, attempt, timestamp_ms)

    def _write(self, order: TrackedOrder, command: PlaceOrder, request: WireRequest, attempt: int, timestamp_ms: int) -> None:
        """The last look, and the bytes."""
        sent_ns = 0

        def on_answer(answer: OrderReport | ExchangeError) -> None:
            self._times.answered(sent_ns)
            self._on_answer(order, attempt, answer)

        with self._gate.sending(reduces=command.reduce_only) as refusal:
            if refusal is None:
                try:
                    self._entry.send(request, timestamp_ms, on_answer)
                    sent_ns = self._times.sent(command)
                    self.counters.sent += 1
                except NotSent:
                    self._spawn(order, attempt, self._write_second_way(order, command, request, attempt, timestamp_ms))
                except Exception as error:  # noqa: BLE001 whatever it was, a byte may have left
                    self._doubt(order, attempt, f"{type(error).__name__}: {error}")
        if refusal is not None:
            self._refuse(order, refusal, attempt)

    async def _write_second_way(
        self, order: TrackedOrder, command: PlaceOrder, request: WireRequest, attempt: int, timestamp_ms: int
    ) -> None:
        """The same attempt by the venue's other way: the first way had not taken a byte."""
        refusals: list[Refusal] = []

        def last_check() -> None:
            refusal = self._gate.refusal(reduces=command.reduce_only)
            if expired(command):
                refusal = ("EXPIRED_LOCALLY", "the command expired before it could be sent")
            if refusal is not None:
                refusals.append(refusal)
                raise NotSent(refusal[1], code=refusal[0])

        self.counters.second_way += 1
        try:
            answer: OrderReport | ExchangeError = await self._entry.send_second_way(request, timestamp_ms, last_check)
        except NotSent as error:
            self._refuse(order, refusals[0] if refusals else ("VENUE_UNREACHABLE", error.detail), attempt)
            return
        except ExchangeError as error:
            answer = error
        except BaseException as error:
            self._doubt(order, attempt, f"{type(error).__name__}: {error}")
            raise
        self._on_answer(order, attempt, answer)

    # answers

    def _on_answer(self, order: TrackedOrder, attempt: int, answer: OrderReport | ExchangeError) -> None:
        """What came of an attempt; may be called again when an answer comes after its time-out."""
        crash_point("after-answer")
        match answer:
            case OrderReport():
                self._on_report(order, attempt, answer)
            case DuplicateOrder():
                alive = Reported(status=OrderStatus.OPEN, at_ns=self._entry.clock.now_ns())
                self._ledger.learn(order, [alive], cause=order.command)
                self._look(order)
            case ClockRefused():
                self._on_clock_refused(order, attempt, answer)
            case OrderOutcomeUnknown() | AnswerLost() | BadResponse():
                self._doubt(order, attempt, answer.detail)
            case OrderRejected() | AuthError() | TransientError():
                self._on_refused(order, attempt, answer)
            case _:
                self._doubt(order, attempt, f"an answer that fits no order: {answer}")

    def _on_report(self, order: TrackedOrder, attempt: int, answer: OrderReport) -> None:
        """The venue took it, if the answer is about this order."""
        if answer.client_order_id != order.client_order_id:
            self._doubt(order, attempt, f"the answer is about another order: {answer.client_order_id!r}")
            return
        self._ledger.take(answer, cause=order.command, ts_recv_ns=now_ns())
        if not order.knowledge.alive:
            self._doubt(order, attempt, f"the answer is about another order: a {answer.terms.side} of {answer.terms.symbol[:40]}")

    def _on_refused(self, order: TrackedOrder, attempt: int, error: ExchangeError) -> None:
        """The venue said no, for certain."""
        if isinstance(error, AuthError):
            self._gate.refused_key = f"{error.detail} (code {error.code})"
            self._ledger.alert(AlertLevel.CRITICAL, "VENUE_REFUSES_KEY", f"no more orders until `tradebot resume`: {error.detail}")
        code = "RATE_LIMITED" if isinstance(error, RateLimited) else error.code
        self.counters.rejected["RATE_LIMITED" if isinstance(error, RateLimited) else "venue"] += 1
        self._ledger.learn(order, [Refuted(attempt=attempt, code=code, reason=error.detail, final=True)], cause=order.command)

    def _on_clock_refused(self, order: TrackedOrder, attempt: int, error: ClockRefused) -> None:
        """Proof that nothing was executed: measure the clock and try once more, if the command still lives."""
        self._gate.clock_refused()
        self._entry.clock.forget()
        final = attempt >= MAX_ATTEMPTS or order.command is None
        self._ledger.learn(
            order, [Refuted(attempt=attempt, code=error.code, reason=error.detail, final=final)], cause=order.command
        )
        if not final and order.command is not None:
            try:
                self._pool.spawn(self._try_again(order, order.command), "orders.try_again")
            except PoolFull as full:
                self._refuse(order, ("OVERLOADED", str(full)))

    async def _try_again(self, order: TrackedOrder, command: PlaceOrder) -> None:
        try:
            await self._entry.measure_clock()
        except TransientError as error:
            self._refuse(order, ("CLOCK_UNKNOWN", f"the venue's clock cannot be measured: {error.detail}"))
            return
        if order.state.status is OrderStatus.INTENT:
            self._send(order, command)

    def _doubt(self, order: TrackedOrder, attempt: int, reason: str) -> None:
        """The attempt may have executed: UNKNOWN, unless something else is known, and reconciliation looks for it."""
        self.counters.doubted += 1
        log.warning("orders.outcome_unknown", client_order_id=order.client_order_id, reason=reason)
        self._ledger.learn(order, [Doubted(attempt=attempt, reason=reason)], cause=order.command)
        self._look(order)

    def _spawn(self, order: TrackedOrder, attempt: int, work: Coroutine[Any, Any, None]) -> None:
        try:
            self._pool.spawn(work, "orders.second_way")
        except PoolFull as full:
            self._refuse(order, ("OVERLOADED", str(full)), attempt)


def same_command(left: PlaceOrder, right: PlaceOrder) -> bool:
    """Whether two commands ask for the same."""
    return msgspec.structs.replace(left, **_IDENTITY) == msgspec.structs.replace(right, **_IDENTITY)
