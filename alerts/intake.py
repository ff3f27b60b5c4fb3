"""From the bus into the journal: what was read is durable, with all that follows from it, before it is acknowledged.

The place in each stream is written together with its effects, so that what is delivered again after a crash is known and skipped:
a fill is told once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import structlog

from alerts.durable_tables import DurableTables
from alerts.report import Report
from alerts.router import Router
from alerts.rules.rule_book import RuleBook
from bus.interfaces import Delivery, Retry
from bus.stream_info import id_key
from common_models import AlertLevel, AnyMessage, Gap
from runtime.clock import now_ns
from runtime.crash_points import crash_point

log = structlog.get_logger(__name__)


class Intake:
    """Messages, probes and Alertmanager in; reports to the router, and everything durable."""

    def __init__(self, tables: DurableTables, rules: RuleBook, router: Router, clock: Callable[[], int] = now_ns) -> None:
        self.known = 0  # deliveries that had been handled before a crash
        self._tables = tables
        self._rules = rules
        self._router = router
        self._clock = clock
        self._positions = tables.table("stream_positions", str)

    async def handle(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries of the consumer group; raises Retry when the disk does not take them."""
        now = self._clock()
        for delivery in deliveries:
            if self._is_known(delivery):
                self.known += 1
                continue
            if isinstance(delivery.message, Gap) and not delivery.entry_id:
                self._note_loss(delivery.message, now)
            else:
                self._see(delivery.message, now)
            if delivery.entry_id:
                self._positions.put(delivery.stream, delivery.entry_id)
        crash_point("alerts-before-commit")
        try:
            self._tables.commit()
        except OSError as error:
            raise Retry(f"the alerts cannot be written to {error.filename or 'the disk'}: {error.strerror or error}") from None
        crash_point("alerts-after-commit")

    def see_market(self, stream: str, message: AnyMessage) -> None:
        """Take one message of a market stream; what comes of it is durable with the next commit, within a second.

        A gap that only our own reader has (it bears no id) is no gap in the market data.
        """
        if message.message_id:
            self._see(message, self._clock())

    def tick(self) -> None:
        """What time brings; raises OSError when it cannot be made durable."""
        now = self._clock()
        self._take(self._rules.tick(now), now)
        self._router.tick(now)
        self._tables.commit()

    def take(self, reports: Iterable[Report]) -> None:
        """Take reports from elsewhere; raises OSError when they cannot be made durable."""
        self._take(reports, self._clock())
        self._tables.commit()

    def _see(self, message: AnyMessage, now: int) -> None:
        self._take(self._rules.see(message, now), now)

    def _take(self, reports: Iterable[Report], now: int) -> None:
        for report in reports:
            self._router.take(report, now)

    def _is_known(self, delivery: Delivery) -> bool:
        position = self._positions.get(delivery.stream)
        return bool(delivery.entry_id) and position is not None and id_key(delivery.entry_id) <= id_key(position)

    def _note_loss(self, gap: Gap, now: int) -> None:
        """The consumer found that messages are missing: we were too far behind, or the server lost its data and begins anew."""
        self._positions.drop(gap.stream)
        count = "an unknown number of" if gap.count is None else str(gap.count)
        report = Report(
            key=f"MESSAGES_LOST|{gap.stream}",
            level=AlertLevel.WARNING,
            code="MESSAGES_LOST",
            event="messages_lost",
            title=f"{count} messages of {gap.stream} were not seen by the alerts: {gap.reason}",
            ts_ns=gap.ts_recv_ns,
            category="system",
            source="alerts",
        )
        self._router.take(report, now)
