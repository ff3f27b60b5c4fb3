"""What happens to the entries of a consumer group between the read and the acknowledgement; the same for Redis and memory.

Decode, drop copies, tell losses, call the handler, then acknowledge. A batch that fails is repeated entry by entry, and an entry
that fails MAX_ATTEMPTS times is parked in the dead letters, so that one bad message cannot stop the others.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import structlog

from bus.codec import decode, peek_message_id
from bus.delivery_times import DeliveryTimes
from bus.errors import CodecError
from bus.gaps import stream_gap
from bus.interfaces import BatchHandler, Delivery, Retry, Unacceptable
from bus.sequences import JUMP, SequenceTracker
from bus.tail import MISSED
from common_models import Gap
from runtime.backoff import Backoff

log = structlog.get_logger(__name__)

MAX_ATTEMPTS: Final = 3
MAX_REMEMBERED: Final = 100_000
ATTEMPT_WAIT_S: Final = 0.05
MAX_ERROR_TEXT: Final = 2000


class Entry(NamedTuple):
    """One entry as it was read. `body` is None when only its id is left, because it was trimmed or deleted while pending."""

    stream: str
    entry_id: str
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that nobody could handle, and why."""

    stream: str
    entry_id: str
    group: str
    error: str
    payload: bytes


class _Item(NamedTuple):
    delivery: Delivery
    body: bytes


class _Stopped(Exception):
    """Stop was set before the handler took what was in hand."""


class GroupBackend(Protocol):
    """Where entries come from: a consumer group in Redis or in memory."""

    def acknowledge(self, stream: str, entry_id: str) -> None:
        """The effect is durable: forget the entry (with the next read)."""

    async def park(self, letter: Letter) -> None:
        """Move an entry to the dead letters and acknowledge it, in one step."""

    async def begin_trial(self, stream: str, entry_id: str) -> int:
        """Note durably that an entry is handled alone, and return how often it was before: a crash loop is counted too."""

    async def undo_trial(self, stream: str, entry_id: str) -> None:
        """The handler said "not now": that was no trial."""


class Deliverer:
    """Carries entries of one group to one handler. Counts are totals since the start."""

    def __init__(
        self,
        backend: GroupBackend,
        group: str,
        handle: BatchHandler,
        stop: asyncio.Event,
        batch: int,
        times: DeliveryTimes | None = None,
    ) -> None:
        self.handled = 0
        self.copies = 0
        self.parked = 0
        self.missed = 0
        self.retries = 0
        self.failures = 0
        self._backend = backend
        self._group = group
        self._handle = handle
        self._stop = stop
        self._batch = batch
        self._times = times
        self._seen: dict[str, None] = {}
        self._trackers: defaultdict[str, SequenceTracker] = defaultdict(SequenceTracker)
        self._last_pub_ns: dict[str, int] = {}

    async def deliver(self, entries: Sequence[Entry]) -> None:
        """Handle new entries in batches. Returns early when stop is set: what is left stays pending."""
        items: list[_Item] = []
        taken: set[str] = set()
        for entry in entries:
            items += await self._prepare(entry, taken)
        if items and self._times is not None:
            self._times.note(items[0].delivery.stream, items[0].delivery.message.ts_pub_ns)
        with suppress(_Stopped):
            for start in range(0, len(items), self._batch):
                await self._deliver_batch(items[start : start + self._batch])

    async def deliver_again(self, entries: Sequence[Entry]) -> None:
        """Handle entries that were delivered before and not acknowledged: one by one, since one of them may be what kills us."""
        with suppress(_Stopped):
            for entry in entries:
                for item in await self._prepare(entry, set()):
                    await self._deliver_alone(item, again=bool(item.delivery.entry_id))

    async def tell(self, gap: Gap) -> None:
        """Hand over a gap that was found outside the entries."""
        self.missed += gap.count or 0
        with suppress(_Stopped):
            await self._deliver_alone(_Item(Delivery(gap.stream, "", gap), b""))

    async def _prepare(self, entry: Entry, taken: set[str]) -> list[_Item]:
        """The deliveries of one entry: none for a copy or an unreadable one, two when messages before it are missing."""
        stream, entry_id, body = entry.stream, entry.entry_id, entry.body
        tracker = self._trackers[stream]
        if body is None:
            self._backend.acknowledge(stream, entry_id)
            self.missed += 1
            log.warning("bus.pending_entry_gone", stream=stream, group=self._group, entry_id=entry_id)
            reason = "trimmed or deleted while it was pending"
            return [_Item(Delivery(stream, "", stream_gap(stream, reason, first=entry_id, last=entry_id, count=1)), b"")]
        try:
            message = decode(body)
        except CodecError as error:
            message_id = peek_message_id(body)
            if message_id:
                tracker.observe(message_id)
            await self._park(stream, entry_id, f"unreadable: {error}", body)
            return []
        message_id = message.message_id
        if message_id and (message_id in self._seen or message_id in taken):
            self.copies += 1
            self._backend.acknowledge(stream, entry_id)
            return []
        taken.add(message_id)
        items = [_Item(Delivery(stream, entry_id, message), body)]
        if tracker.observe(message_id) == JUMP:
            first, last, count = tracker.missing
            self.missed += count
            if not (isinstance(message, Gap) and message.first_missing == first):
                log.warning("bus.entries_missed", stream=stream, group=self._group, count=count, first=first, last=last)
                times = {"from_ns": self._last_pub_ns.get(stream, 0), "to_ns": message.ts_pub_ns}
                gap = stream_gap(stream, MISSED, first=first, last=last, count=count, **times)
                items.insert(0, _Item(Delivery(stream, "", gap), b""))
        self._last_pub_ns[stream] = message.ts_pub_ns
        return items

    async def _deliver_batch(self, items: Sequence[_Item]) -> None:
        """Handle a batch at once, or piece by piece when that fails."""
        if len(items) > 1 and await self._attempt([item.delivery for item in items]) is None:
            return
        for item in items:
            await self._deliver_alone(item)

    async def _deliver_alone(self, item: _Item, *, again: bool = False) -> None:
        """Handle one, up to MAX_ATTEMPTS times, then park it. `again`: the trials of earlier lives of this process count."""
        delivery = item.delivery
        error = ""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            if again:
                deaths = await self._backend.begin_trial(delivery.stream, delivery.entry_id)
                if deaths >= MAX_ATTEMPTS:
                    error = f"handling it ended the process {deaths} times"
                    break
            failure = await self._attempt([delivery._replace(attempts=attempt)], again=again)
            if failure is None:
                return
            error = f"{type(failure).__name__}: {failure}"
            if isinstance(failure, Unacceptable):
                break
            if again:
                await self._backend.undo_trial(delivery.stream, delivery.entry_id)  # we survived it
            await self._wait(ATTEMPT_WAIT_S * attempt)
        if delivery.entry_id:
            await self._park(delivery.stream, delivery.entry_id, error, item.body)
            self._remember(delivery.message.message_id)

    async def _attempt(self, deliveries: Sequence[Delivery], *, again: bool = False) -> Exception | None:
        """Call the handler until it says something else than "not now"; returns its error, or raises _Stopped."""
        backoff = Backoff(first_s=0.05, cap_s=5.0)
        first = deliveries[0]
        while not self._stop.is_set():
            try:
                await self._handle(deliveries)
            except Retry as retry:
                self.retries += 1
                wait_s = backoff.next_s()
                log.info("bus.handler_not_ready", group=self._group, reason=str(retry), wait_s=round(wait_s, 3))
                if again:
                    await self._backend.undo_trial(first.stream, first.entry_id)
                await self._wait(wait_s)
                if again and not self._stop.is_set():
                    await self._backend.begin_trial(first.stream, first.entry_id)
                continue
            except Unacceptable as error:
                self.failures += 1
                return error
            except Exception as error:
                self.failures += 1
                where = {"stream": first.stream, "entry_id": first.entry_id, "entries": len(deliveries)}
                log.warning("bus.handler_failed", group=self._group, exc_info=error, **where)
                return error
            acknowledge, remember = self._backend.acknowledge, self._remember
            for stream, entry_id, message, _ in deliveries:
                if entry_id:
                    acknowledge(stream, entry_id)
                    remember(message.message_id)
            self.handled += len(deliveries)
            return None
        raise _Stopped

    async def _park(self, stream: str, entry_id: str, error: str, payload: bytes) -> None:
        log.error("bus.parked", stream=stream, group=self._group, entry_id=entry_id, error=error)
        await self._backend.park(Letter(stream, entry_id, self._group, error[:MAX_ERROR_TEXT], payload))
        self.parked += 1

    def _remember(self, message_id: str) -> None:
        if message_id:
            self._seen[message_id] = None
            if len(self._seen) > MAX_REMEMBERED:
                del self._seen[next(iter(self._seen))]

    async def _wait(self, wait_s: float) -> None:
        """Wait, but not longer than until stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._stop.wait()
