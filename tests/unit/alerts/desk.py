"""An alerts desk without processes: tables in a folder, a router, one channel's queue, and a clock that tests move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alerts.alert_book import AlertBook
from alerts.durable_tables import DurableTables
from alerts.intake import Intake
from alerts.outbox import Message, Outbox
from alerts.report import Report
from alerts.router import Router
from alerts.rules.rule_book import RuleBook
from common_models import AlertLevel
from runtime.settings import AlertsSettings, Settings

SECOND = 1_000_000_000
START_NS = 1_763_733_600 * SECOND  # 2025-11-21 14:00:00 UTC


class Desk:
    def __init__(self, home: Path, channels: dict[str, AlertLevel] | None = None, **settings: Any) -> None:
        self.now_ns = START_NS
        self.settings = AlertsSettings.model_validate(settings)
        self.tables = DurableTables(home)
        self.book = AlertBook(self.tables, self.settings.escalate_after_s)
        self.outbox = Outbox(self.tables, channels or {"phone": AlertLevel.INFO})
        self.router = Router(self.tables, self.book, self.outbox, self.settings)
        self.rules = RuleBook({}, Settings(), self.tables)
        self.intake = Intake(self.tables, self.rules, self.router, lambda: self.now_ns)
        self.tables.load()
        self.book.start()
        self.outbox.start()

    def take(self, code: str, level: AlertLevel = AlertLevel.ERROR, subject: str = "", **changes: Any) -> None:
        """Report `code` about `subject`, now."""
        fields: dict[str, Any] = {
            "key": f"{code}|||{subject}",
            "level": level,
            "code": code,
            "event": code.lower(),
            "title": f"{code} {subject}".strip(),
            "ts_ns": self.now_ns,
            "one_off": level is AlertLevel.INFO,
        }
        self.router.take(Report(**(fields | changes)), self.now_ns)

    def after(self, seconds: float) -> None:
        """Let time pass, in steps of a second as the process does."""
        for _ in range(int(seconds)):
            self.now_ns += SECOND
            self.router.tick(self.now_ns)

    def sent(self, channel: str = "phone") -> list[Message]:
        """What waits for the channel, in the order in which it goes out; it is delivered by this."""
        found: list[Message] = []
        while messages := self.outbox.next(channel):
            found += messages
            self.outbox.done(channel, messages, self.now_ns)
        return found

    def titles(self, channel: str = "phone") -> list[str]:
        return [message.title for message in self.sent(channel)]

    def reopened(self) -> Desk:
        """The same home after a crash: what was committed is there."""
        self.tables.close()
        fresh = Desk(self.tables._path.parent, dict(self.outbox.channels), **self.settings.model_dump())
        fresh.now_ns = self.now_ns
        return fresh
