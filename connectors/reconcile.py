"""Finding out what is true at the venue: the only start path, a periodic check, and the only way out of UNKNOWN.

An order is declared dead on complete evidence only: its deadline, the venue's own time-out, the clock's error and a margin for
lagging reads have passed; after that several rounds of query by id, open orders and fills were all negative; and none of these
queries failed. A failed query starts the count anew. An order older than the venue's memory is left UNKNOWN for a person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from common_models import AlertLevel, OrderStatus
from common_models.timestamps import NS_PER_S
from connectors.account_ledger import AccountLedger
from connectors.errors import ExchangeError, TransientError
from connectors.journal_records import TrackedOrder
from connectors.order_entry import OrderEntry
from runtime.backoff import Backoff
from runtime.clock import monotonic_s, now_ns
from trading.order_state import Attempted, Doubted, Escalated, Executed, Refuted

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ProofRules:
    """What a proof of death takes beyond the venue's own bounds."""

    read_lag_s: float = 5.0
    """Queries may be answered from a store that lags behind the matching engine."""
    rounds: int = 3
    span_s: float = 5.0
    """The negative rounds lie at least so far apart, first to last."""
    answer_s: float = 12.0
    """An order that has been SENT for so long without an answer is looked for."""
    poll_s: float = 0.25
    ask_first_s: float = 0.2
    ask_cap_s: float = 3.0
    """How often one order is asked for: seldom enough for the rate budget."""
    fills_after_s: float = 0.2
    """Fills that only a query told of usually arrive by themselves in a moment."""


@dataclass(slots=True)
class _Search:
    """The state of the search for one order."""

    backoff: Backoff
    next_s: float = 0.0
    negative_s: list[float] = field(default_factory=list)


class Reconciler:
    """Compares journal and venue."""

    def __init__(self, entry: OrderEntry, ledger: AccountLedger, symbols: Callable[[], Iterable[str]], rules: ProofRules) -> None:
        """`symbols` are the markets whose fills are followed, beside those of known orders."""
        self._entry = entry
        self._ledger = ledger
        self._journal = ledger.journal
        self._symbols = symbols
        self._rules = rules
        self._searches: dict[str, _Search] = {}
        self._asked: set[str] = set()
        self._running = asyncio.Lock()
        self.passes = 0
        self.proofs = 0

    # the whole account

    def doubt_what_was_in_flight(self) -> None:
        """After a restart nobody waits for answers any more: whatever was SENT may have executed."""
        for order in self._journal.unfinished:
            for attempt in order.knowledge.unsettled_attempts:
                if not order.knowledge.alive and attempt not in order.knowledge.doubts:
                    self._ledger.learn(order, [Doubted(attempt=attempt, reason="the connector was restarted before the answer")])

    async def run_once(self) -> None:
        """Compare everything; raises TransientError when a question had no answer, and then the pass must be repeated."""
        async with self._running:
            await self._entry.measure_clock()
            listed = set()
            for report in await self._entry.open_orders():
                listed.add(self._ledger.take(report).client_order_id)
            for order in self._journal.unfinished:
                if (order.knowledge.attempts or order.knowledge.alive) and order.client_order_id not in listed:
                    await self._ask(order)
            for symbol in sorted({*self._symbols(), *(order.terms.symbol for order in self._journal.unfinished)}):
                await self._follow_fills(symbol)
            for key in sorted(self._ledger.incomplete):
                if (incomplete := self._journal.orders.get(key)) is not None:
                    await self._fetch_fills(incomplete)
            asked_ns = now_ns()
            self._ledger.on_balances(await self._entry.balances(), asked_ns, whole=True)
            self.passes += 1

    async def _ask(self, order: TrackedOrder) -> bool:
        """Ask the venue for one order by our id; returns whether it knows it."""
        report = await self._entry.order(order.terms.symbol, client_order_id=order.client_order_id)
        if report is None:
            return False
        self._ledger.take(report)
        if not order.knowledge.alive:  # no evidence of life, and of death even less
            raise TransientError(f"the venue means another order by {order.client_order_id}")
        return True

    async def _follow_fills(self, symbol: str) -> None:
        """Take in every fill since the last one known, ours and others'. On a first start the past is left alone."""
        seen = self._journal.trades_seen.get(symbol)
        fills = await self._entry.fills(symbol, after_trade_id=seen)
        if seen is None:
            known = [fill for fill in fills if self._ledger.by_exchange_id(symbol, fill.exchange_order_id) is not None]
            last, fills = max((int(fill.trade_id) for fill in fills), default=0), known
        else:
            last = max((int(fill.trade_id) for fill in fills), default=seen)
        for fill in fills:
            await self._take_fill(symbol, fill)
        self._journal.saw_trades(symbol, last)

    async def _take_fill(self, symbol: str, fill: Executed) -> None:
        order = self._ledger.by_exchange_id(symbol, fill.exchange_order_id)
        if order is None:
            report = await self._entry.order(symbol, exchange_order_id=fill.exchange_order_id)
            if report is None:
                raise TransientError(
                    f"fill {fill.trade_id} belongs to order {fill.exchange_order_id}, which the venue does not find"
                )
            order = self._ledger.take(report)
        self._ledger.learn(order, [fill])

    async def _fetch_fills(self, order: TrackedOrder) -> None:
        """Ask for the fills of one order, of which the venue counts more than we have (O09)."""
        exchange_order_id = order.state.exchange_order_id
        if exchange_order_id:
            self._ledger.learn(order, await self._entry.fills(order.terms.symbol, exchange_order_id=exchange_order_id))

    # single orders in doubt

    def look(self, order: TrackedOrder) -> None:
        """Have this order looked for soon."""
        self._asked.add(order.client_order_id)
        self._search_for(order.client_order_id).next_s = 0.0

    async def settle(self) -> None:
        """Look for what is in doubt, for ever."""
        while True:
            for order in self._in_doubt():
                await self._search(order)
            await asyncio.sleep(self._rules.poll_s)

    def _in_doubt(self) -> list[TrackedOrder]:
        """Orders that are due to be looked for."""
        asked, self._asked = self._asked, set()
        keys = asked | self._ledger.unknown | set(self._searches)
        limit_ns = now_ns() - int(self._rules.answer_s * NS_PER_S)
        keys |= {
            order.client_order_id
            for order in self._journal.unfinished
            if order.state.status is OrderStatus.SENT and order.accepted_ns < limit_ns
        }
        now_s = monotonic_s()
        for key in self._ledger.incomplete - set(self._searches):
            self._search_for(key).next_s = now_s + self._rules.fills_after_s
        due = []
        for key in keys:
            order = self._journal.orders.get(key)
            if order is None or (order.state.operator_review and key not in asked):
                self._searches.pop(key, None)  # forgotten, or a person's business: the periodic pass still asks
            elif self._search_for(key).next_s <= now_s:
                due.append(order)
        return due

    def _search_for(self, client_order_id: str) -> _Search:
        search = self._searches.get(client_order_id)
        if search is None:
            search = _Search(Backoff(first_s=self._rules.ask_first_s, cap_s=self._rules.ask_cap_s))
            self._searches[client_order_id] = search
        return search

    async def _search(self, order: TrackedOrder) -> None:
        """One look at one order."""
        search = self._search_for(order.client_order_id)
        try:
            if order.state.fills_missing:
                await self._fetch_fills(order)
                settled = not order.state.fills_missing
            else:
                settled = await self._ask(order) or await self._absent(order, search)
        except ExchangeError as error:
            search.negative_s.clear()
            settled = False
            log.warning("reconcile.no_answer", client_order_id=order.client_order_id, error=str(error))
        if settled:
            self._searches.pop(order.client_order_id, None)
        else:
            search.next_s = monotonic_s() + search.backoff.next_s()

    async def _absent(self, order: TrackedOrder, search: _Search) -> bool:
        """The venue did not know the order just now. Returns whether anything is settled by that."""
        if order.state.status not in (OrderStatus.UNKNOWN, OrderStatus.SENT):
            return True
        if self._too_old(order):
            return True
        if not self._deadline_passed(order):
            return False
        for report in await self._entry.open_orders():
            self._ledger.take(report)
        await self._follow_fills(order.terms.symbol)
        if order.knowledge.alive:
            return True
        search.negative_s.append(monotonic_s())
        if len(search.negative_s) < self._rules.rounds or search.negative_s[-1] - search.negative_s[0] < self._rules.span_s:
            return False
        reason = f"searched {len(search.negative_s)} times after the deadline: not by id, not open, no fills"
        proofs = [Refuted(attempt=n, code="NOT_PLACED", reason=reason, final=True) for n in order.knowledge.unsettled_attempts]
        self._ledger.learn(order, proofs)
        self.proofs += 1
        log.info("reconcile.not_placed", client_order_id=order.client_order_id, rounds=len(search.negative_s))
        return True

    def _deadline_passed(self, order: TrackedOrder) -> bool:
        """Whether the venue can neither execute the request any more nor be late in telling of it."""
        clock = self._entry.clock
        if not clock.known:
            return False
        margin_s = self._entry.settle_s + self._rules.read_lag_s + clock.bound_s
        return clock.now_ns() > order.knowledge.deadline_ns + int(margin_s * NS_PER_S)

    def _too_old(self, order: TrackedOrder) -> bool:
        """Past the venue's memory "not found" proves nothing: a person must decide."""
        attempts: Iterable[Attempted] = order.knowledge.attempts.values()
        first_ns = min((attempt.deadline_ns for attempt in attempts), default=now_ns())
        if self._entry.clock.now_ns() - first_ns < int(self._entry.retention_s * NS_PER_S):
            return False
        days = self._entry.retention_s / 86_400
        reason = f"sent more than {days:g} days ago: the venue may have forgotten it"
        if self._ledger.learn(order, [Escalated(reason=reason)]):
            self._ledger.alert(AlertLevel.CRITICAL, "UNDECIDABLE_ORDER", f"{order.client_order_id}: {reason}", order)
        return True
