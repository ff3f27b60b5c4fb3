"""The process that writes history: streams into PostgreSQL, in batches (docs: `tradebot recorder`).

Three intakes with their own consumer, connection and share of the spool, so that a flood of books holds up no fill.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from bus.client import open_redis
from bus.consumer import StreamConsumer
from bus.delivery import Letter
from bus.errors import BufferFull
from bus.janitor import Janitor
from bus.publisher import StreamPublisher
from bus.streams import Stream, Streams
from common_models import Alert, AlertLevel, OrderBook, Ticker
from postgres.bus_rules import RECORDER, rules_of
from postgres.intake import CANNOT_STORE, DeadLetter, Intake, pause
from postgres.partitions import maintain
from postgres.pool import Link
from postgres.schema import PARTITIONED
from postgres.spool import Spool
from postgres.tables import TABLES
from postgres.thinning import Thinner
from runtime import metrics
from runtime.clock import now_ns
from runtime.endpoints import bus_url, postgres_url
from runtime.service import Service, ServiceError, run_service
from runtime.settings import Settings

log = structlog.get_logger(__name__)

MAINTAIN_EVERY_S = 600.0
MAINTAIN_RETRY_S = 5.0
STOP_GRACE_S = 8.0


@dataclass(frozen=True, slots=True)
class Share:
    """Which streams an intake takes, its percentage of the spool, and how many entries of a stream it reads at once at most.

    Books are wide: twenty levels a side are 20 kB as objects, so fewer of them make a batch.
    """

    market: tuple[str, ...]
    spool_percent: int
    batch_rows: int
    account_and_bot: bool = False


SHARES = {
    "account": Share((), 25, 1000, account_and_bot=True),
    "market": Share(("trades", "tickers", "daystats", "candles", "funding", "instruments"), 50, 2000),
    "books": Share(("books",), 25, 250),
}


def run(settings: Settings) -> int:
    """Run the recorder until SIGTERM; the exit code of the process."""
    return run_service(RECORDER, settings, settings.recorder.port, record)


async def record(service: Service) -> None:
    """Record until `service.stop`; raises ServiceError when the settings cannot be followed."""
    await Recorder(service, Streams(service.settings.mode.value)).run()


def streams_of(settings: Settings, streams: Streams, share: Share) -> list[Stream]:
    """The streams of one intake, over all configured exchanges."""
    enabled = [(name, exchange.account) for name, exchange in settings.exchanges.items() if exchange.enabled]
    found = [streams.market(name, kind) for name, _ in enabled for kind in share.market]
    if share.account_and_bot:
        found += [streams.account(name, account, kind) for name, account in enabled for kind in Streams.ACCOUNT_KINDS]
        found += [streams.signals, streams.decisions, streams.round_trips, streams.alerts, streams.control]
        found.append(streams.plugins)
    return found


class Recorder:
    """Wires the intakes to the bus and the database, and tells about them."""

    def __init__(self, service: Service, streams: Streams) -> None:
        self._service = service
        self._settings = settings = service.settings
        self._streams = streams
        unknown = sorted(set(settings.recorder.keep_days) - set(PARTITIONED))
        if unknown:
            raise ServiceError(f"recorder.keep_days: no retention for {', '.join(unknown)}; known: {', '.join(PARTITIONED)}")
        self._bus_url = bus_url(settings)
        self._publisher = StreamPublisher(self._bus_url, RECORDER)
        self._upkeep = self._link()
        self._consumers: dict[str, StreamConsumer] = {}
        self.intakes: dict[str, Intake] = {}
        for name, share in SHARES.items():
            if found := streams_of(settings, streams, share):
                self._consumers[name] = self._consumer(name, share, found)
                self.intakes[name] = self._intake(name, share)

    async def run(self) -> None:
        """Read, store and maintain until the service stops; batches in hand are finished, the rest stays in the streams."""
        stop = self._service.stop
        redis = open_redis(self._bus_url)
        janitor = Janitor(redis, rules_of(self._settings, self._streams))
        await self._publisher.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                for name, intake in self.intakes.items():
                    tasks.create_task(self._consumers[name].run(intake.handle, stop), name=f"consume-{name}")
                    tasks.create_task(intake.drain(stop), name=f"drain-{name}")
                tasks.create_task(self._maintain(stop), name="maintain")
                tasks.create_task(janitor.run(stop), name="janitor")
        finally:
            for intake in self.intakes.values():
                await intake.close()
            await self._upkeep.close()
            await redis.aclose()
            await self._publisher.close(STOP_GRACE_S)

    def _link(self) -> Link:
        return Link(partial(postgres_url, self._settings), self._streams.mode, self._settings.postgres)

    def _intake(self, name: str, share: Share) -> Intake:
        recorder = self._settings.recorder
        spool_bytes = recorder.spool_mb * 1024 * 1024 * share.spool_percent // 100
        intake = Intake(
            name,
            self._link(),
            Spool(self._settings.home / "spool" / self._streams.mode / name, spool_bytes),
            Thinner({OrderBook: recorder.book_interval_s, Ticker: recorder.ticker_interval_s}),
            park=partial(self._park, self._consumers[name]),
            report=partial(self._service.health.report, f"history.{name}"),
            tell=self._tell,
            batch_rows=self._batch_rows(share),
        )
        expose(intake)
        return intake

    def _batch_rows(self, share: Share) -> int:
        return min(share.batch_rows, self._settings.recorder.batch_rows)

    def _consumer(self, name: str, share: Share, found: Sequence[Stream]) -> StreamConsumer:
        return StreamConsumer(self._bus_url, found, RECORDER, f"{RECORDER}-{name}", batch=self._batch_rows(share))

    async def _park(self, consumer: StreamConsumer, letters: Sequence[DeadLetter]) -> None:
        """Move entries to the dead letters, by the way that the consumer itself parks what it cannot read."""
        for letter in letters:
            await consumer.park(Letter(letter.stream, letter.entry_id, RECORDER, letter.reason, letter.body))

    async def _maintain(self, stop: asyncio.Event) -> None:
        """Partitions now and every few minutes; sooner after a failure."""
        while not stop.is_set():
            wait_s = MAINTAIN_RETRY_S
            try:
                done = await self._upkeep.run(partial(maintain, now_ns=now_ns(), keep_days=self._settings.recorder.keep_days))
            except CANNOT_STORE as error:
                log.warning("recorder.maintenance_failed", reason=str(error))
            else:
                wait_s = MAINTAIN_RETRY_S if done.postponed else MAINTAIN_EVERY_S
                if done.created or done.dropped or done.deleted_rows:
                    log.info("recorder.maintained", created=len(done.created), dropped=done.dropped, deleted_rows=done.deleted_rows)
            await pause(wait_s, stop)

    def _tell(self, level: AlertLevel, code: str, text: str) -> None:
        """Raise an alert; when even the alerts' buffer is full, the log has it."""
        try:
            self._publisher.put(
                self._streams.alerts, Alert(level=level, source=RECORDER, code=code, text=text, ts_event_ns=now_ns())
            )
        except BufferFull:
            log.warning("recorder.alert_not_published", code=code, text=text)


def expose(intake: Intake) -> None:
    """Publish the counters of one intake."""
    labels = {"intake": intake.name}
    counters: dict[str, tuple[str, Callable[[], float]]] = {
        "duplicates_total": ("Messages that were stored already", lambda: intake.duplicates),
        "skipped_total": ("Messages that no table wants", lambda: intake.skipped),
        "refused_total": ("Messages parked in the dead letters", lambda: intake.refused),
        "thinned_total": ("Books and tickers left out as configured", lambda: intake.thinner.thinned),
        "spooled_total": ("Messages written to the disk spool", lambda: intake.spooled),
        "failures_total": ("Batches that the database did not take", lambda: intake.failures),
    }
    for name, (help_text, read) in counters.items():
        metrics.expose_counter(f"tradebot_recorder_{name}", help_text, labels, read)
    metrics.expose_gauge("tradebot_recorder_spool_bytes", "Spool on disk", labels, lambda: intake.spool.size_bytes)
    metrics.expose_gauge("tradebot_recorder_spool_limit_bytes", "Cap of the spool", labels, lambda: intake.spool.cap_bytes)
    metrics.expose_gauge("tradebot_recorder_lag_seconds", "Age of the last stored message", labels, lambda: intake.lag_s)
    for name in sorted({name for table in TABLES.values() for name in table.names}):
        read = partial(intake.rows.__getitem__, name)
        metrics.expose_counter("tradebot_recorder_rows_total", "Rows written", {**labels, "table": name}, read)
