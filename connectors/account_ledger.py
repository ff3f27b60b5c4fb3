"""Facts in, events out: the one place where something learned about the account is journalled and then told to the bus.

Whoever learns (an answer, the push of account events, a query) hands over facts. Each is journalled first; then new fills and the
changed state of the order are published. What the bus has not acknowledged is published again, after a crash and after the bus lost
its data; `revision` and trade ids let consumers tell copies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal

import structlog

from bus.errors import BufferFull, CodecError
from bus.interfaces import Publisher
from bus.streams import Stream, Streams
from common_models import (
    Alert,
    AlertLevel,
    ConnectionState,
    ConnectorStatus,
    Message,
    OrderStatus,
)
from connectors.account_events import AccountName, balance_event, fill_event, order_update
from connectors.client_order_id import ClientOrderIds
from connectors.journal import Journal
from connectors.journal_records import TrackedOrder
from connectors.order_entry import BalanceReport, OrderReport
from runtime.clock import monotonic_ns, now_ns
from runtime.metrics import hop
from trading.order_state import Executed, Fact, OrderState

log = structlog.get_logger(__name__)

_ZERO = Decimal(0)


class AccountLedger:
    """Orders, fills and balances of one account, as far as known."""

    def __init__(self, journal: Journal, publisher: Publisher, streams: Streams, name: AccountName, ids: ClientOrderIds) -> None:
        self.journal = journal
        self.name = name
        self.ids = ids
        self._publisher = publisher
        self._streams = streams
        self._orders_stream = streams.account(name.exchange, name.account, "orders")
        self._fills_stream = streams.account(name.exchange, name.account, "fills")
        self._balances_stream = streams.account(name.exchange, name.account, "balances")
        self._status_stream = streams.account(name.exchange, name.account, "status")
        self._by_exchange_id: dict[str, TrackedOrder] = {}
        self._balances: dict[str, BalanceReport] = {}
        self._put: dict[str, int] = {}
        self.unknown: set[str] = set()
        self.incomplete: set[str] = set()
        """Orders of which the venue counts more filled than we have fills."""
        self.fills = 0
        self.finished: Counter[OrderStatus] = Counter()
        self.late_fills = 0
        self.unpublished = 0
        self.unpublishable = 0
        self.contradictions = 0
        self._acknowledged_ns: dict[str, int] = {}  # open orders without a fill
        self._ack_to_fill = hop("ack_to_fill", name.exchange)
        for order in journal.orders.values():
            self._index(order)

    # facts

    def learn(self, order: TrackedOrder, facts: Iterable[Fact], *, cause: Message | None = None, ts_recv_ns: int = 0) -> bool:
        """Take in facts about an order; returns whether any was new."""
        before, told, was_alive = order.state, self._told(order), order.knowledge.alive
        fresh_fills: list[Executed] = []
        news = False
        for fact in facts:
            unseen = isinstance(fact, Executed) and fact.trade_id not in order.knowledge.executions
            if self.journal.learn(order, fact):
                news = True
                if unseen and isinstance(fact, Executed):
                    fresh_fills.append(fact)
        if not news:
            return False
        self._index(order)
        after = order.state
        self._count(order, before, len(fresh_fills), was_alive=was_alive)
        if fresh_fills and before.status.terminal and before.status is not OrderStatus.FILLED:
            self.late_fills += len(fresh_fills)
            text = f"{order.client_order_id} was {before.status.value} and filled afterwards"
            self.alert(AlertLevel.WARNING, "LATE_FILL", text, order)
        if after.operator_review and not before.operator_review:
            why = after.reason or "two venue orders under one client order id"
            self.alert(AlertLevel.CRITICAL, "OPERATOR_REVIEW", f"{order.client_order_id}: {why}", order)
        if fresh_fills or after != before:
            self._publish(order, fresh_fills, cause, ts_recv_ns or now_ns())
        elif told:
            self._put[order.client_order_id] = order.revision  # nothing that anyone could see has changed
        return True

    def _count(self, order: TrackedOrder, before: OrderState, fresh_fills: int, *, was_alive: bool) -> None:
        """Keep the numbers: ends, fills, and how long the first fill took from the venue's word that the order lives."""
        key, after = order.client_order_id, order.state
        if order.external:
            return
        self.fills += fresh_fills
        if after.status.terminal and not before.status.terminal:
            self.finished[after.status] += 1
        if order.knowledge.alive and not was_alive:
            self._acknowledged_ns[key] = monotonic_ns()
        if fresh_fills and key in self._acknowledged_ns:
            self._ack_to_fill.observe_ns(monotonic_ns() - self._acknowledged_ns.pop(key))
        if after.status.terminal:
            self._acknowledged_ns.pop(key, None)

    def take(self, report: OrderReport, *, cause: Message | None = None, ts_recv_ns: int = 0) -> TrackedOrder:
        """Take in what the venue says of an order, one of ours or of somebody else's.

        Nothing is taken in, and a person is told, when it means another order than the one that we sent under this id.
        """
        if self.ids.is_ours(report.client_order_id):
            order = self.journal.orders.get(report.client_order_id)
            if order is None:
                log.warning("orders.adopted", client_order_id=report.client_order_id, symbol=report.terms.symbol)
                order = self.journal.adopt(report.client_order_id, report.terms, external=False)
            elif (report.terms.symbol, report.terms.side) != (order.terms.symbol, order.terms.side):
                self.contradictions += 1
                said = f"a {report.terms.side} of {report.terms.symbol[:40]}, which we sent as a {order.terms.side}"
                self.alert(AlertLevel.CRITICAL, "CONTRADICTION", f"the venue calls {report.client_order_id} {said}", order)
                return order
        else:
            order = self._external(report)
        self.learn(order, (*report.fills, report.report), cause=cause, ts_recv_ns=ts_recv_ns)
        return order

    def _external(self, report: OrderReport) -> TrackedOrder:
        """Somebody else's order. Their client ids may be empty or used again, so the venue's id tells their orders apart."""
        exchange_order_id = report.report.exchange_order_id
        known = self.by_exchange_id(report.terms.symbol, exchange_order_id)
        if known is not None:
            return known
        key = report.client_order_id or "external"
        if not report.client_order_id or key in self.journal.orders:
            key = f"{key}#{exchange_order_id}"
        log.info("orders.external", client_order_id=key, symbol=report.terms.symbol, exchange_order_id=exchange_order_id)
        return self.journal.orders.get(key) or self.journal.adopt(key, report.terms, external=True)

    def by_exchange_id(self, symbol: str, exchange_order_id: str) -> TrackedOrder | None:
        """The order that the venue knows by this id."""
        return self._by_exchange_id.get(f"{symbol} {exchange_order_id}")

    def has_unknown(self, symbol: str) -> bool:
        """Whether an order of this market is UNKNOWN: its exposure is not known, so no more is added."""
        if not self.unknown:
            return False
        return any(self.journal.orders[key].terms.symbol == symbol for key in self.unknown if key in self.journal.orders)

    def _index(self, order: TrackedOrder) -> None:
        for exchange_order_id in order.knowledge.exchange_order_ids:
            self._by_exchange_id[f"{order.terms.symbol} {exchange_order_id}"] = order
        state, key = order.state, order.client_order_id
        (self.unknown.add if state.status is OrderStatus.UNKNOWN else self.unknown.discard)(key)
        (self.incomplete.add if state.fills_missing else self.incomplete.discard)(key)

    def forget_pruned(self) -> None:
        """Follow the journal, which has dropped finished orders."""
        orders = self.journal.orders
        self._by_exchange_id = {key: order for key, order in self._by_exchange_id.items() if order.client_order_id in orders}
        self._put = {key: revision for key, revision in self._put.items() if key in orders}
        self.incomplete &= orders.keys()

    # balances

    def on_balances(self, reports: Sequence[BalanceReport], ts_recv_ns: int, *, whole: bool = False) -> None:
        """Publish balances that are news; an older one never replaces a newer. `whole` says that what is not listed is zero."""
        for report in reports:
            self._on_balance(report, ts_recv_ns)
        if whole and reports:
            listed = {report.asset for report in reports}
            at_ns = reports[0].at_ns
            for asset in [asset for asset in self._balances if asset not in listed]:
                self._on_balance(BalanceReport(asset=asset, free=_ZERO, locked=_ZERO, at_ns=at_ns), ts_recv_ns)

    def _on_balance(self, report: BalanceReport, ts_recv_ns: int) -> None:
        known = self._balances.get(report.asset)
        if known is not None and (report.at_ns < known.at_ns or (report.free, report.locked) == (known.free, known.locked)):
            return
        self._balances[report.asset] = report
        self._send(self._balances_stream, balance_event(self.name, report, ts_recv_ns))

    # events

    def say(self, order: TrackedOrder, *, cause: Message | None = None, code: str = "", reason: str = "") -> None:
        """Publish the present state of an order as the answer to a command; `code` and `reason` are the command's."""
        self._send(self._orders_stream, order_update(self.name, order, cause, now_ns(), code, reason))

    def alert(self, level: AlertLevel, code: str, text: str, order: TrackedOrder | None = None) -> None:
        """Tell people."""
        log.warning("orders.alert", level=level.value, code=code, text=text)
        alert = Alert(
            level=level,
            source=f"connector-{self.name.exchange}",
            code=code,
            text=text,
            ts_event_ns=now_ns(),
            exchange=self.name.exchange,
            symbol=order.terms.symbol if order is not None else "",
        )
        self._send(self._streams.alerts, alert)

    def status(
        self, leg: str, state: ConnectionState, reason: str = "", subject: str = "", clock_offset_ns: int | None = None
    ) -> None:
        """Tell how a leg of the connector does."""
        status = ConnectorStatus(
            exchange=self.name.exchange,
            account=self.name.account,
            ts_event_ns=None,
            ts_recv_ns=now_ns(),
            leg=leg,
            state=state,
            reason=reason,
            subject=subject,
            clock_offset_ns=clock_offset_ns,
        )
        self._send(self._status_stream, status)

    def republish(self) -> None:
        """Publish all that the bus has not acknowledged: after a start, and whenever some could not be put."""
        for order in list(self.journal.orders.values()):
            if not self._told(order):
                self._publish(order, order.knowledge.executions.values(), None, now_ns())

    def _told(self, order: TrackedOrder) -> bool:
        """Whether the bus was handed all that is known of an order."""
        return order.revision <= max(order.published, self._put.get(order.client_order_id, 0))

    def forget_bus(self) -> None:
        """The bus has lost its data: everything is news again."""
        self.journal.forget_published()
        self._put.clear()
        balances, self._balances = list(self._balances.values()), {}
        self.on_balances(balances, now_ns())
        self.republish()

    async def confirm(self, bus_epoch: str) -> None:
        """Wait until the bus has what was put, and note that in the journal."""
        put, self._put = self._put, {}
        try:
            await self._publisher.flushed()
        except BaseException:
            self._put = put | self._put
            raise
        if put or bus_epoch != self.journal.bus_epoch:
            self.journal.published(bus_epoch, put)

    def _publish(self, order: TrackedOrder, fills: Iterable[Executed], cause: Message | None, ts_recv_ns: int) -> None:
        sent = [self._send(self._fills_stream, fill_event(self.name, order, fill, cause, ts_recv_ns)) for fill in fills]
        sent.append(self._send(self._orders_stream, order_update(self.name, order, cause, ts_recv_ns)))
        if all(sent):
            self._put[order.client_order_id] = order.revision

    def _send(self, stream: Stream, message: Message) -> bool:
        """Put a message; a full buffer costs nothing but time, since the journal has the fact and it is published later."""
        try:
            self._publisher.put(stream, message)
        except BufferFull as error:
            self.unpublished += 1
            log.warning("orders.not_published", stream=stream.name, reason=str(error))
            return False
        except CodecError as error:
            self.unpublishable += 1  # trying again would never help, and keep what comes after it from the bus
            log.error("orders.unpublishable", stream=stream.name, reason=str(error))  # noqa: TRY400 the text says it all
        return True
