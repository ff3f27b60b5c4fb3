"""Cancel one, cancel all, amend: commands about orders that exist.

A cancel is journalled like an order, passes a pressed stop, and may use the whole rate budget. "Unknown order" as its answer may
mean filled, gone or never there, so it means *look*, never *done*: an order ends as CANCELED on the venue's word alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from common_models import AlertLevel, AmendOrder, CancelAll, CancelOrder, ConnectionState, OrderStatus, PlaceOrder
from connectors.errors import (
    AnswerLost,
    BadResponse,
    ClockRefused,
    ExchangeError,
    NotSent,
    OrderNotFound,
    OrderOutcomeUnknown,
    RateLimited,
    TransientError,
)
from connectors.journal_records import OtherCommand
from connectors.order_entry import OrderReport
from connectors.order_parts import OrderParts
from connectors.rate_budget import Lane
from connectors.task_pool import PoolFull
from runtime.backoff import Backoff
from runtime.clock import now_ns
from runtime.crash_points import crash_point
from trading.order_state import Closed

log = structlog.get_logger(__name__)

OnOutcome = Callable[[OrderReport | ExchangeError], None]


class Cancels:
    """Carries out the commands of one account that are no new orders."""

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

    def take(self, command: OtherCommand) -> None:
        """Accept and begin; a command that was accepted before is only answered again."""
        answered = self._journal.answers.get(command.command_id)
        if answered is not None:
            self._tell(command, answered.code, answered.reason)
        elif command.command_id not in self._journal.commands:
            self._journal.accept_command(command, self._epoch)
            crash_point("after-intent")
            self._begin(command)

    def resume(self) -> None:
        """After a restart: carry on with what was accepted and has no answer. Cancelling twice does no harm."""
        for command in self._journal.pending_commands:
            self._begin(command)

    def _begin(self, command: OtherCommand) -> None:
        if expired(command):
            self._end(command, "EXPIRED_LOCALLY", "the command arrived after its expiry")
            return
        match command:
            case CancelOrder():
                self._cancel(command)
            case CancelAll():
                self._spawn(command, self._cancel_all(command))
            case AmendOrder():
                self._end(command, "NOT_SUPPORTED", f"{self._entry.name} orders are not amended: cancel and place anew")

    # one order

    def _cancel(self, command: CancelOrder) -> None:
        order = self._journal.orders.get(command.client_order_id)
        if order is not None:
            status = order.state.status
            if status.terminal:
                self._end(command, "", f"the order was {status.value} already")
                return
            if status is OrderStatus.INTENT:
                closed = Closed(status=OrderStatus.CANCELED, code="CANCELED_UNSENT", reason="cancelled before it was sent")
                self._ledger.learn(order, [closed], cause=command)
                self._end(command, "", "")
                return
        try:
            self._send(command, lambda outcome: self._on_outcome(command, outcome))
        except RateLimited as error:
            self._spawn(command, self._later(command, error.retry_after_s))

    def _send(self, command: CancelOrder, on_outcome: OnOutcome) -> None:
        """Write a cancel now, or by the second way in a moment. Raises RateLimited."""
        if not self._gate.writer:
            on_outcome(NotSent("this connector does not hold the account's lease", code="FENCED"))
            return
        request = self._entry.cancel(command, self._instruments().get(command.symbol))
        self._budget.take_now(request.weight, Lane.CANCEL)
        timestamp_ms = self._entry.clock.now_ms()
        try:
            self._entry.send(request, timestamp_ms, on_outcome)
        except NotSent:

            async def second_way() -> None:
                try:
                    on_outcome(await self._entry.send_second_way(request, timestamp_ms, lambda: None))
                except ExchangeError as error:
                    on_outcome(error)

            self._spawn(command, second_way())

    async def _later(self, command: CancelOrder, wait_s: float) -> None:
        """No budget now: a cancel waits for it as long as its command lives."""
        left_s = (command.expires_at_ns - now_ns()) / 1e9
        await asyncio.sleep(max(0.0, min(wait_s, left_s)) + 0.01)
        if command.command_id not in self._journal.answers:
            self._begin(command)

    def _on_outcome(self, command: CancelOrder, outcome: OrderReport | ExchangeError) -> None:
        crash_point("after-answer")
        match outcome:
            case OrderReport():
                self._ledger.take(outcome, cause=command, ts_recv_ns=now_ns())
                self._end(command, "", "")
            case OrderNotFound() | OrderOutcomeUnknown() | AnswerLost() | BadResponse():
                self._spawn(command, self._look_after(command, outcome))
            case ClockRefused():
                self._entry.clock.forget()
                self._gate.clock_refused()
                self._spawn(command, self._try_again(command, outcome))
            case _:
                self._end(command, outcome.code or "CANCEL_REFUSED", outcome.detail)

    async def _try_again(self, command: CancelOrder, error: ClockRefused) -> None:
        """Nothing was executed: measure the clock and send again, as long as the gate still trusts it."""
        try:
            await self._entry.measure_clock()
        except TransientError as failure:
            self._end(command, error.code, f"{error.detail}; {failure.detail}")
            return
        if self._gate.clock_trusted:
            self._begin(command)
        else:
            self._end(command, error.code, error.detail)

    async def _look_after(self, command: CancelOrder, outcome: ExchangeError) -> None:
        """Ask what became of the order. Absence proves nothing here; an UNKNOWN order goes to reconciliation."""
        backoff = Backoff(first_s=0.1, cap_s=2.0)
        undecided_until_ns = now_ns() + int((self._entry.recv_window_s + self._entry.settle_s) * 1e9)
        while True:
            try:
                report = await self._entry.order(command.symbol, client_order_id=command.client_order_id)
            except ExchangeError as error:
                log.warning("cancel.look_failed", client_order_id=command.client_order_id, error=str(error))
            else:
                if report is not None and self._ledger.take(report, cause=command).state.status.terminal:
                    self._end(command, "", "")
                    return
                if isinstance(outcome, OrderNotFound):
                    self._not_found(command, outcome)
                    return
            if now_ns() > undecided_until_ns:
                self._end(command, "CANCEL_NOT_DONE", f"{outcome.detail}; the order was not found cancelled afterwards")
                return
            await asyncio.sleep(backoff.next_s())

    def _not_found(self, command: CancelOrder, outcome: ExchangeError) -> None:
        order = self._journal.orders.get(command.client_order_id)
        if order is not None:
            self._look(order)
        self._end(command, outcome.code or "UNKNOWN_ORDER", f"{outcome.detail}; the order's own state is unchanged")

    # all orders

    async def _cancel_all(self, command: CancelAll) -> None:
        """Cancel until the venue lists no open order and none of ours is in flight; what is left at expiry is named."""
        backoff = Backoff(first_s=0.1, cap_s=1.0)
        left = "nothing is known yet"
        while not expired(command):
            try:
                left = await self._cancel_open(command)
            except ExchangeError as error:
                left = error.detail
            if not left:
                self._end(command, "", "no open order is left")
                return
            await asyncio.sleep(backoff.next_s())
        self._ledger.alert(AlertLevel.ERROR, "CANCEL_ALL_INCOMPLETE", f"orders may still be open: {left}")
        self._end(command, "CANCEL_ALL_INCOMPLETE", left)

    async def _cancel_open(self, command: CancelAll) -> str:
        """One round; returns what is still open or in flight, in words, empty when nothing is."""
        reports = [report for report in await self._entry.open_orders() if command.symbol in (None, report.terms.symbol)]
        outcomes: list[asyncio.Future[None]] = []
        for report in reports:
            self._ledger.take(report, cause=command)
            outcomes.append(self._cancel_listed(command, report))
        if outcomes:
            await asyncio.wait(outcomes, timeout=self._entry.recv_window_s)
        in_flight = [
            order.client_order_id
            for order in self._journal.unfinished
            if command.symbol in (None, order.terms.symbol) and order.state.status in (OrderStatus.SENT, OrderStatus.UNKNOWN)
        ]
        return ", ".join([report.client_order_id for report in reports] + in_flight)

    def _cancel_listed(self, command: CancelAll, report: OrderReport) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        single = CancelOrder(
            command_id=command.command_id,
            exchange=command.exchange,
            account=command.account,
            strategy=command.strategy,
            created_at_ns=command.created_at_ns,
            expires_at_ns=command.expires_at_ns,
            symbol=report.terms.symbol,
            client_order_id=report.client_order_id,
        )

        def on_outcome(outcome: OrderReport | ExchangeError) -> None:
            if isinstance(outcome, OrderReport):
                self._ledger.take(outcome, cause=command, ts_recv_ns=now_ns())
            else:
                log.warning("cancel_all.refused", client_order_id=report.client_order_id, error=str(outcome))
            if not done.done():
                done.set_result(None)

        self._send(single, on_outcome)
        return done

    # ends

    def _end(self, command: OtherCommand, code: str, reason: str) -> None:
        """Record and tell the outcome, once."""
        if command.command_id in self._journal.answers:
            return
        self._journal.answer(command.command_id, code, reason)
        self._tell(command, code, reason)

    def _tell(self, command: OtherCommand, code: str, reason: str) -> None:
        if isinstance(command, CancelAll):
            self._ledger.status("orders", ConnectionState.CONNECTED, reason, subject="cancel_all")
            return
        order = self._journal.orders.get(command.client_order_id)
        if order is not None:
            self._ledger.say(order, cause=command, code=code, reason=reason)
        else:
            text = f"{type(command).__name__} of {command.client_order_id}: {code} {reason}"
            self._ledger.alert(AlertLevel.WARNING, "UNKNOWN_ORDER", text)

    def _spawn(self, command: OtherCommand, work: Coroutine[Any, Any, None]) -> None:
        try:
            self._pool.spawn(work, f"cancel.{command.command_id[:8]}")
        except PoolFull as full:
            self._end(command, "OVERLOADED", str(full))


def expired(command: PlaceOrder | OtherCommand) -> bool:
    """Whether a command may not be sent any more."""
    return now_ns() >= command.expires_at_ns
