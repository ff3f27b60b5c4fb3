"""One group of streams on its way into the tables: store, or spool while the database is away, and only then acknowledge."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import asyncpg
import structlog

from bus.codec import decode, encode
from bus.errors import BusError, BusUnavailable, CodecError, ServerError
from bus.interfaces import Delivery, Retry
from common_models import AlertLevel, Message
from postgres.pool import Link, retrying
from postgres.schema import SchemaError
from postgres.spool import Spool, SpoolFull
from postgres.thinning import Thinner
from postgres.writer import HistoryWriter, Stored
from runtime.backoff import Backoff
from runtime.clock import monotonic_ns, monotonic_s, now_ns
from runtime.endpoints import NotRunning
from runtime.metrics import expose_histogram

log = structlog.get_logger(__name__)

LINGER_S = 0.05
"""After a small batch the next read waits this long: twenty commits a second instead of one per event."""
BACK_TO_BACK_S = 0.002
"""A single entry that comes this soon after the last is one of many that are delivered again one by one: no lingering then."""

CANNOT_STORE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    SchemaError,
    NotRunning,
)
"""The database cannot take a batch now. What is wrong with single rows, `HistoryWriter` has sorted out by then."""


class Entry(NamedTuple):
    """A message, the stream that it came from, and its id there."""

    stream: str
    entry_id: str
    message: Message


class DeadLetter(NamedTuple):
    """An encoded message that no table takes, where it came from, and why."""

    stream: str
    entry_id: str
    body: bytes
    reason: str


Park = Callable[[Sequence[DeadLetter]], Awaitable[None]]
"""Keeps dead letters where people look for them; returns when they are safe."""
Report = Callable[[bool, str], None]
Tell = Callable[[AlertLevel, str, str], None]
"""Raises an alert: level, code, text."""


class Intake:
    """What one consumer reads becomes rows, in order, each at least once and stored once.

    Direct way: a batch is committed, then acknowledged. While the database is away: it is appended to the spool, synced to disk,
    then acknowledged; `drain` stores the spool in order, and until it is empty new batches go behind it. Spool full:
    nothing is acknowledged, the streams hold it. The two ways never run at once, since each needs the spool to be in another state.
    """

    def __init__(
        self, name: str, link: Link, spool: Spool, thinner: Thinner, *, park: Park, report: Report, tell: Tell, batch_rows: int
    ) -> None:
        self.name = name
        self.rows: Counter[str] = Counter()
        self.duplicates = self.skipped = self.refused = self.spooled = self.failures = 0
        self.batch_times = expose_histogram("tradebot_recorder_batch_seconds", "Time of a committed batch", {"intake": name})
        self.lag_s = 0.0
        self.spool = spool
        self.thinner = thinner
        self._link = link
        self._writer = HistoryWriter()
        self._park = park
        self._report = report
        self._tell = tell
        self._batch_rows = batch_rows
        self._full = False
        self._returned_s = 0.0
        self._spooling = asyncio.Event()
        report(False, "waiting for the database")
        if not spool.empty:
            self._spooling.set()

    async def handle(self, deliveries: Sequence[Delivery]) -> None:
        """Make one batch safe; raises bus.interfaces.Retry when it can be kept nowhere now."""
        idle_s = monotonic_s() - self._returned_s
        entries = [Entry(delivery.stream, delivery.entry_id, delivery.message) for delivery in deliveries]
        messages, slots = self.thinner.choose([entry.message for entry in entries])
        kept = entries
        if len(messages) < len(entries):
            chosen = set(map(id, messages))
            kept = [entry for entry in entries if id(entry.message) in chosen]
        if not await self._stored_directly(kept):
            self._to_spool(kept)
        self.thinner.accept(slots, len(entries) - len(kept))
        if len(entries) * 8 < self._batch_rows and (len(entries) > 1 or idle_s > BACK_TO_BACK_S):
            await asyncio.sleep(LINGER_S)
        self._returned_s = monotonic_s()

    async def drain(self, stop: asyncio.Event) -> None:
        """Store what lies in the spool whenever something does, until `stop`; what is left then stays for the next start."""
        backoff = Backoff(first_s=0.1, cap_s=5.0)
        await self._reach_database(stop, backoff)
        while await _came_first(self._spooling, stop):
            entries, unreadable = _unpacked(self.spool.take(self._batch_rows))
            try:
                if unreadable:
                    await self._park(unreadable)
                await self._store(entries)
            except (*CANNOT_STORE, BusError, Retry) as error:
                self._say_spooling(error)
                await pause(backoff.next_s(), stop)
                continue
            self.spool.done()
            backoff.reset()
            self._full = False
            if self.spool.empty:
                self._spooling.clear()
                self._report(True, "")
                self._tell(AlertLevel.INFO, "RECORDER_SPOOL_DRAINED", f"{self.name}: the database is back, the spool is stored")
                log.info("recorder.spool_drained", intake=self.name)

    async def close(self) -> None:
        """Let go of connection and files, when nothing runs any more."""
        await self._link.close()
        self.spool.close()

    async def _reach_database(self, stop: asyncio.Event, backoff: Backoff) -> None:
        """Until the first connection: say why there is none."""
        while not stop.is_set():
            try:
                await self._link.connection()
            except CANNOT_STORE as error:
                self._report(False, f"the database cannot be used: {_reason(error)}")
                log.warning("recorder.database_away", intake=self.name, reason=_reason(error))
                await pause(backoff.next_s(), stop)
                continue
            self._report(True, "")
            return

    async def _stored_directly(self, entries: Sequence[Entry]) -> bool:
        if not self.spool.empty:
            return False
        try:
            await self._store(entries)
        except CANNOT_STORE as error:
            log.warning("recorder.spooling", intake=self.name, reason=_reason(error))
            self._tell(
                AlertLevel.WARNING, "RECORDER_SPOOLING", f"{self.name}: the database is away ({_reason(error)}); spooling to disk"
            )
            self._say_spooling(error)
            return False
        return True

    async def _store(self, entries: Sequence[Entry]) -> None:
        """Commit a batch and park what was refused; raises CANNOT_STORE or Retry, and then repeating is harmless."""
        if not entries:
            return
        messages = [entry.message for entry in entries]
        started_ns = monotonic_ns()

        async def once(connection: asyncpg.Connection) -> Stored:
            return await self._writer.store(connection, messages)

        try:
            stored = await retrying(lambda: self._link.run(once))
        except CANNOT_STORE:
            self.failures += 1
            raise
        if stored.refused:
            by_id = {id(entry.message): entry for entry in entries}
            letters = [_letter(by_id[id(refused.message)], refused.reason) for refused in stored.refused]
            log.warning("recorder.refused", intake=self.name, count=len(letters), reason=letters[0].reason)
            try:
                await self._park(letters)
            except (BusUnavailable, ServerError) as error:
                raise Retry(f"dead letters cannot be written: {error}") from error
        self.rows.update(stored.rows)
        self.duplicates += stored.duplicates
        self.skipped += stored.skipped
        self.refused += len(stored.refused)
        self.batch_times.observe_ns(monotonic_ns() - started_ns)
        self.lag_s = max(0.0, (now_ns() - messages[-1].ts_pub_ns) / 1e9)

    def _to_spool(self, entries: Sequence[Entry]) -> None:
        try:
            self.spool.append([_packed(entry) for entry in entries])
        except SpoolFull as error:
            if not self._full:
                self._full = True
                self._report(False, f"spool full, nothing is acknowledged any more: {error}")
                self._tell(AlertLevel.CRITICAL, "RECORDER_SPOOL_FULL", f"{self.name}: {error}; the streams hold what comes")
                log.error("recorder.spool_full", intake=self.name, reason=str(error))  # noqa: TRY400 expected: no traceback
            raise Retry(str(error)) from error
        self.spooled += len(entries)
        self._full = False
        self._spooling.set()

    def _say_spooling(self, error: Exception) -> None:
        if not self._full:
            self._report(True, f"spooling, {self.spool.size_bytes} bytes on disk: {_reason(error)}")


def _letter(entry: Entry, reason: str) -> DeadLetter:
    return DeadLetter(entry.stream, entry.entry_id, encode(entry.message), reason)


def _packed(entry: Entry) -> bytes:
    """A spool record: neither stream names nor entry ids contain blanks."""
    return b"%b %b %b" % (entry.stream.encode(), entry.entry_id.encode(), encode(entry.message))


def _unpacked(records: Sequence[bytes]) -> tuple[list[Entry], list[DeadLetter]]:
    """Entries of spool records, and what this version of the code cannot read (it was spooled by another one)."""
    entries, unreadable = [], []
    for record in records:
        name, number, body = record.split(b" ", 2)
        stream, entry_id = name.decode(), number.decode()
        try:
            entries.append(Entry(stream, entry_id, decode(body)))
        except CodecError as error:
            unreadable.append(DeadLetter(stream, entry_id, body, f"spooled, and not readable any more: {error}"))
    return entries, unreadable


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


async def pause(seconds: float, stop: asyncio.Event) -> None:
    """Wait, or until `stop`."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _came_first(event: asyncio.Event, stop: asyncio.Event) -> bool:
    """Wait until one of the two is set: whether it was `event`, and not `stop`."""
    waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(stop.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return not stop.is_set()
