"""The alerts process: what happens in, what people should know out (docs: `tradebot alerts`, docs/alerts.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import structlog

from alerts.alert_book import AlertBook
from alerts.alert_state import AlertPhase, AlertState
from alerts.alertmanager import MAX_BYTES, PATH, AlertmanagerIntake
from alerts.channels.opening import HttpChannel, open_channels
from alerts.database_copy import DatabaseCopy
from alerts.delivery import Delivery
from alerts.durable_tables import DurableTables
from alerts.intake import Intake
from alerts.notification import Channel
from alerts.outbox import Outbox
from alerts.probing import Probing
from alerts.report import LEVELS, Report
from alerts.router import Router
from alerts.rules.models import Rule
from alerts.rules.rule_book import RuleBook, load_rules
from alerts.telegram.service import open_telegram
from alerts.wording import DIGEST
from bus.consumer import StreamConsumer
from bus.publisher import StreamPublisher
from bus.reader import TailReader
from bus.streams import Stream, Streams
from common_models import AlertLevel
from postgres.intake import pause
from postgres.pool import Link
from runtime import crash_points
from runtime.append_log import AppendLogError
from runtime.clock import now_ns
from runtime.endpoints import bus_url, postgres_url
from runtime.metrics import expose_counter, expose_gauge
from runtime.service import Service, ServiceError, run_service
from runtime.settings import Settings

log = structlog.get_logger(__name__)

ALERTS = "alerts"
TICK_S, STARTING_TICK_S = 1.0, 0.1
STOP_GRACE_S = 3.0
READ_KINDS = ("orders", "fills", "balances", "positions", "status")
REASONS = ("off", "duplicate", DIGEST)


def run(settings: Settings) -> int:
    """Run the alerts process until SIGTERM; the exit code of the process. Raises ConfigError for rules that cannot be used."""
    crash_points.arm(settings.mode)
    return run_service(ALERTS, settings, settings.alerts.port, partial(watch, load_rules(settings)))


async def watch(rules: dict[str, Rule], service: Service) -> None:
    """Watch and tell until `service.stop`; raises ServiceError when the settings cannot be followed."""
    settings = service.settings
    if not settings.alerts.enabled:
        raise ServiceError("alerts.enabled is false: there is nothing to do")
    try:
        await Alerts(service, rules, open_channels(settings.alerts)).run()
    except AppendLogError as error:
        raise ServiceError(str(error)) from None


def events_of(settings: Settings, streams: Streams) -> list[Stream]:
    """The lossless streams that rules look at, beside the alerts themselves."""
    found = [streams.decisions, streams.round_trips, streams.control]
    for name, exchange in settings.exchanges.items():
        if exchange.enabled:
            found += [streams.account(name, exchange.account, kind) for kind in READ_KINDS]
    return found


class Desk:
    """`alerts.interfaces.AlertDesk`: what people may ask and say."""

    def __init__(self, book: AlertBook, tables: DurableTables) -> None:
        self._book = book
        self._tables = tables

    def active(self, limit: int = 50) -> list[AlertState]:
        return self._book.active(limit)

    def acknowledge(self, alert_id: str, by: str) -> AlertState:
        state = self._book.acknowledge(alert_id, by, now_ns())
        self._tables.commit()
        return state

    def resolve(self, alert_id: str, by: str) -> AlertState:
        state = self._book.resolve(alert_id, by, now_ns())
        self._tables.commit()
        return state


class Alerts:
    """Wires intake, router and channels, and tells about them."""

    def __init__(self, service: Service, rules: dict[str, Rule], http: Sequence[tuple[HttpChannel, AlertLevel]]) -> None:
        self._service = service
        self._settings = settings = service.settings
        self._streams = Streams(settings.mode.value)
        self._bus_url = bus_url(settings)
        self._tables = DurableTables(settings.home / "alerts" / settings.mode.value)
        self._book = AlertBook(self._tables, settings.alerts.escalate_after_s)
        self.desk = Desk(self._book, self._tables)
        self._http = http
        self._publisher = StreamPublisher(self._bus_url, ALERTS)
        self._telegram = open_telegram(settings, self._publisher, self.desk, service.health)
        channels: list[tuple[Channel, AlertLevel]] = [*http]
        if self._telegram is not None and self._telegram.channel is not None:
            channels.insert(0, (self._telegram.channel, AlertLevel.INFO))
        self._outbox = Outbox(self._tables, {channel.name: level for channel, level in channels})
        self._router = Router(self._tables, self._book, self._outbox, settings.alerts)
        self._rules = RuleBook(rules, settings, self._tables)
        self._intake = Intake(self._tables, self._rules, self._router)
        self._alertmanager = AlertmanagerIntake(self._intake.take)
        self._link = Link(partial(postgres_url, settings), self._streams.mode, settings.postgres)
        self._copy = DatabaseCopy(self._link, self._tables, self._book, self._outbox, partial(service.health.report, "database"))
        self._tables.load()
        self._book.start()
        self._outbox.start()
        per_minute = settings.alerts.telegram.messages_per_minute
        self._deliveries = [Delivery(channel, self._outbox, self._tables, per_minute, self._tell) for channel, _ in channels]
        self._probing = Probing(partial(bus_url, settings), self._intake.take, self._rules.note_failure)
        self._consumers = [
            StreamConsumer(self._bus_url, [self._streams.alerts], ALERTS, f"{ALERTS}-raised"),
            StreamConsumer(self._bus_url, events_of(settings, self._streams), ALERTS, f"{ALERTS}-events", start="$"),
        ]

    async def run(self) -> None:
        """Take in, decide and deliver until the service stops."""
        stop, health = self._service.stop, self._service.health
        self._expose_metrics()
        health.report("bus", False, "not connected yet")
        health.take_posts(PATH, self._alertmanager.take, MAX_BYTES)
        names = ", ".join(delivery.name for delivery in self._deliveries) or "none: alerts are stored and listed only"
        log.info("alerts.started", channels=names, rules=len(self._rules.names), open=len(self._book.active(10_000)))
        if self._tables.damage:
            log.error("alerts.journal_damaged", reason=self._tables.damage)
            self._tell(_damaged(self._tables.damage))
        try:
            await self._publisher.start()
            async with asyncio.TaskGroup() as tasks:
                for consumer in self._consumers:
                    tasks.create_task(consumer.run(self._intake.handle, stop), name=consumer.consumer_name)
                if self._rules.market:
                    reader = TailReader(self._bus_url, self._rules.market, name=ALERTS)
                    tasks.create_task(reader.run(self._intake.see_market, stop), name="market")
                for name, probe in self._rules.probes.items():
                    tasks.create_task(self._probing.run(name, probe, stop), name=f"probe-{name}")
                for delivery in self._deliveries:
                    tasks.create_task(delivery.run(stop), name=f"deliver-{delivery.name}")
                if self._telegram is not None:
                    tasks.create_task(self._telegram.run(stop), name="telegram")
                tasks.create_task(self._tick(stop), name="tick")
                tasks.create_task(self._copy.run(stop), name="database")
        finally:
            if self._telegram is not None:
                await self._telegram.close()
            for channel, _ in self._http:
                await channel.close()
            await self._publisher.close(STOP_GRACE_S)
            self._probing.close()
            with suppress(OSError):  # what is not written now was told as not durable before
                self._tables.commit()
            self._tables.close()
            await self._link.close()

    async def _tick(self, stop: asyncio.Event) -> None:
        """Every second: what time brings, and how we do."""
        health = self._service.health
        while not stop.is_set():
            try:
                self._intake.tick()
            except OSError as error:
                health.report("journal", False, f"alerts are not durable: {error}")
                log.error("alerts.not_durable", reason=str(error))  # noqa: TRY400 expected when a disk is full
            else:
                health.report("journal", True, f"{self._tables.size_bytes} bytes")
            connected = all(consumer.connects for consumer in self._consumers)
            health.report("bus", connected, "" if connected else "waiting for the bus")
            for delivery in self._deliveries:  # a channel that is down makes this process no less ready: others are told
                health.report(f"channel.{delivery.name}", True, delivery.detail)
            await pause(TICK_S if connected else STARTING_TICK_S, stop)

    def _tell(self, report: Report) -> None:
        """A report of our own parts."""
        self._router.take(report, now_ns())

    def _expose_metrics(self) -> None:
        router, book = self._router, self._book
        for level in LEVELS:
            labels = {"level": level.value}
            read = partial(router.received.__getitem__, level)
            expose_counter("tradebot_alerts_received_total", "Alerts taken in from the bus, rules and Alertmanager", labels, read)
            expose_gauge("tradebot_alerts_open", "Alerts neither resolved nor acknowledged", labels, partial(_open, book, level))
        for reason in REASONS:
            read = partial(router.suppressed.__getitem__, reason)
            expose_counter("tradebot_alerts_suppressed_total", "Notifications not sent by themselves", {"reason": reason}, read)
        totals = {
            "rule_errors_total": ("Failures of rules", lambda: self._rules.errors),
            "malformed_posts_total": ("Posts of Alertmanager that could not be read", lambda: self._alertmanager.malformed),
            "journal_failures_total": ("Writes that the disk refused", lambda: self._tables.failures),
        }
        for name, (help_text, total) in totals.items():
            expose_counter(f"tradebot_alerts_{name}", help_text, {}, total)
        expose_gauge("tradebot_alerts_journal_bytes", "The file of states and messages", {}, lambda: self._tables.size_bytes)
        expose_gauge("tradebot_alerts_digest_waiting", "Reports held for the next digest", {}, lambda: router.digest_waiting)
        expose_gauge("tradebot_alerts_not_in_database", "States and receipts not stored yet", {}, lambda: self._copy.behind)


def _open(book: AlertBook, level: AlertLevel) -> int:
    return sum(state.level is level and state.phase is AlertPhase.OPEN for state in book.active(10_000))


def _damaged(reason: str) -> Report:
    return Report(
        key="JOURNAL_DAMAGED",
        level=AlertLevel.ERROR,
        code="JOURNAL_DAMAGED",
        event="journal_damaged",
        title="The file of alerts was damaged: some of what was open or not delivered may be missing",
        text=reason,
        ts_ns=now_ns(),
        category="storage",
        source=ALERTS,
    )
