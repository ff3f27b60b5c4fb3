"""Keeps PostgreSQL up to date with what is known here, and takes over what people said there. It may be away for any time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

import asyncpg
import structlog

from alerts.alert_book import AlertBook
from alerts.durable_tables import DurableTables
from alerts.interfaces import NoSuchAlert
from alerts.outbox import Outbox
from postgres import alert_store
from postgres.intake import CANNOT_STORE, pause
from postgres.pool import Link
from runtime.backoff import Backoff
from runtime.clock import now_ns

log = structlog.get_logger(__name__)

EVERY_S = 1.0
BATCH = 500
PRUNE_ROUNDS = 3600
KEEP_NS = 90 * 86_400 * 1_000_000_000
"""How long deliveries and actions are remembered there."""
SEEN = "seen"


class DatabaseCopy:
    """One connection, used about once a second."""

    def __init__(
        self, link: Link, tables: DurableTables, book: AlertBook, outbox: Outbox, report: Callable[[bool, str], None]
    ) -> None:
        self.rounds = self.failures = 0
        self._link = link
        self._tables = tables
        self._book = book
        self._outbox = outbox
        self._report = report
        self._actions = tables.table("actions", int)

    async def run(self, stop: asyncio.Event) -> None:
        """Copy until `stop`, and once more at the end."""
        backoff = Backoff(first_s=0.5, cap_s=15.0)
        while True:
            last = stop.is_set()
            wait_s = EVERY_S
            try:
                await self._link.run(self._round)
            except CANNOT_STORE as error:
                self.failures += 1
                wait_s = backoff.next_s()
                reason = f"{type(error).__name__}: {error}".rstrip(": ")
                self._report(True, f"the database is away, alerts are kept here meanwhile: {reason}")  # it holds up no delivery
                log.warning("alerts.database_away", reason=reason, wait_s=round(wait_s, 1))
            else:
                self.rounds += 1
                backoff.reset()
                self._report(True, "")
            if last:
                return
            await pause(wait_s, stop)

    @property
    def behind(self) -> int:
        """States and receipts that the database does not have yet."""
        return len(self._book.unsaved) + len(self._outbox.receipts)

    async def _round(self, connection: asyncpg.Connection) -> None:
        await self._take_actions(connection)
        if self.rounds % PRUNE_ROUNDS == 0:
            await alert_store.prune(connection, now_ns() - KEEP_NS)
        while self.behind:
            ids = list(islice(self._book.unsaved, BATCH))
            receipts = dict(islice(self._outbox.receipts.items(), BATCH))
            states = [self._book.states[alert_id] for alert_id in ids if alert_id in self._book.states]
            for alert_id in ids:  # one that changes while it is stored is stored again
                del self._book.unsaved[alert_id]
            try:
                await alert_store.save(connection, states, receipts.values())
            except BaseException:
                self._book.unsaved |= dict.fromkeys(ids)
                raise
            self._outbox.forget_receipts(list(receipts))

    async def _take_actions(self, connection: asyncpg.Connection) -> None:
        """What was said by the command line; each is taken once, in order."""
        seen = self._actions.get(SEEN)
        if seen is None:  # a new home: what was said before concerned another life
            self._actions.put(SEEN, await alert_store.last_action(connection))
            return
        for action in await alert_store.actions_after(connection, seen):
            change = self._book.resolve if action.phase == alert_store.RESOLVED else self._book.acknowledge
            try:
                change(action.alert_id, action.actor, now_ns())
            except NoSuchAlert:
                log.info("alerts.action_without_alert", alert_id=action.alert_id, phase=action.phase)
            self._actions.put(SEEN, action.number)
