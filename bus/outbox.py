"""What a publisher holds between `put` and the server's acknowledgement, and in which order it is written.

Two kinds. Market data is pipelined, and the oldest is dropped when the buffer is full. Lossless data is never dropped and never
overtakes itself: one write is on its way at a time, and a write of several entries is one transaction, so that a server that
refuses some commands (out of memory) cannot store a later entry before an earlier one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import Final

from bus.connection import REPLY_TIMEOUT_S, Connection, Reply
from bus.errors import BusError, BusUnavailable
from bus.lanes import Batch, Lane
from runtime.clock import monotonic_ns
from runtime.metrics import Histogram

WRITE_ENTRIES: Final = 256
_MULTI: Final = b"*1\r\n$5\r\nMULTI\r\n"
_EXEC: Final = b"*1\r\n$4\r\nEXEC\r\n"


class _Write:
    """Batches on their way: collects one reply per entry."""

    __slots__ = ("_done", "batches", "count", "error", "failed", "seen")

    def __init__(self, batches: list[Batch], count: int, done: Callable[[_Write], None]) -> None:
        self.batches = batches
        self.count = count
        self.seen = 0
        self.failed: set[int] = set()
        self.error: BusError | None = None
        self._done = done

    def receive(self, reply: Reply) -> None:
        """The reply to one XADD: an entry id or an error."""
        if isinstance(reply, BusError):
            self.failed.add(self.seen)
            self.error = reply
        self.seen += 1
        if self.seen == self.count:
            self._done(self)

    def receive_transaction(self, reply: Reply) -> None:
        """The replies to MULTI, each XADD (QUEUED) and EXEC: only the last one says what was stored."""
        if isinstance(reply, BusError) and self.error is None:
            self.error = reply  # the first one has the cause, EXECABORT only tells that there was one
        self.seen += 1
        if self.seen < self.count + 2:
            return
        if isinstance(reply, list):
            self.failed = {index for index, result in enumerate(reply) if isinstance(result, BusError)}
            self.error = next((result for result in reply if isinstance(result, BusError)), None)
        else:
            self.failed = set(range(self.count))
            self.error = self.error or BusError(f"unexpected reply to EXEC: {reply!r}")
        self._done(self)

    def unstored(self) -> list[Batch]:
        """What has to be written again, in order."""
        parts: list[Batch] = []
        offset = 0
        for batch in self.batches:
            size = len(batch.chunks)
            missing = [index for index in range(size) if offset + index in self.failed]
            start = 0
            while start < len(missing):
                stop = start
                while stop + 1 < len(missing) and missing[stop + 1] == missing[stop] + 1:
                    stop += 1
                parts.append(batch.part(missing[start], missing[stop] + 1, retried=True))
                start = stop + 1
            offset += size
        return parts


class Outbox:
    """Batches waiting, batches on their way, and batches that came back. `on_settled(error)` is called after each write.

    `delays` takes the time from the end of the producer's turn to the acknowledgement: once a write, of its first batch.
    """

    MAX_WRITES = 64

    def __init__(
        self,
        max_entries: int,
        max_bytes: int,
        on_settled: Callable[[BusError | None], None],
        timeout_s: float = REPLY_TIMEOUT_S,
        delays: Histogram | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self._on_settled = on_settled
        self._delays = delays or Histogram()
        self._backlog: deque[Batch] = deque()
        self._returned: deque[Batch] = deque()
        self._writes = 0
        self.entries = 0  # held here: waiting, on their way or returned
        self.bytes = 0
        self.accepted = 0
        self.settled = 0  # acknowledged or dropped
        self.retrying = 0  # of those held, how many came back: while there are any, the counts say nothing about one entry
        self.resent = 0

    @property
    def over_bounds(self) -> bool:
        return self.entries > self.max_entries or self.bytes > self.max_bytes

    def add(self, batch: Batch) -> None:
        self._backlog.append(batch)
        count = len(batch.chunks)
        self.entries += count
        self.bytes += batch.size
        self.accepted += count

    def pump(self, connection: Connection) -> None:
        """Write what may be written now; raises BusUnavailable when the connection has ended, and keeps everything then."""
        if self._returned and not self._writes:
            self._backlog.extendleft(reversed(self._returned))
            self._returned.clear()
        while self._backlog and not self._returned and not connection.congested and self._writes < self.MAX_WRITES:
            batches, count = self._take()
            self._writes += 1
            try:
                self._write(connection, _Write(batches, count, self._settle))
            except BusUnavailable:  # nothing left: the connection has ended
                self._writes -= 1
                self._backlog.extendleft(reversed(batches))
                raise

    def _write(self, connection: Connection, write: _Write) -> None:
        connection.send(_joined(write.batches), write.receive, replies=write.count, timeout_s=self._timeout_s)

    def _take(self) -> tuple[list[Batch], int]:
        """The next batches, WRITE_ENTRIES entries at most."""
        batches: list[Batch] = []
        room = WRITE_ENTRIES
        backlog = self._backlog
        while backlog and room > 0:
            batch = backlog.popleft()
            if len(batch.chunks) > room:
                backlog.appendleft(batch.part(room, len(batch.chunks)))
                batch = batch.part(0, room)
            batches.append(batch)
            room -= len(batch.chunks)
        return batches, WRITE_ENTRIES - room

    def _settle(self, write: _Write) -> None:
        """Every reply to a write is in: keep what was not stored for the next one."""
        self._writes -= 1
        stored = write.count - len(write.failed)
        self.entries -= stored
        self.settled += stored
        self.bytes -= sum([batch.size for batch in write.batches])
        if self.retrying:
            self.retrying -= sum(len(batch.chunks) for batch in write.batches if batch.retried)
        if stored:
            self._delays.observe_ns(monotonic_ns() - write.batches[0].taken_ns)
        if write.failed:
            unstored = write.unstored()
            self._returned += unstored
            self.bytes += sum(batch.size for batch in unstored)
            self.retrying += len(write.failed)
            self.resent += len(write.failed)
        self._on_settled(write.error)


class LosslessOutbox(Outbox):
    """Strictly in order: one write at a time, and all of it or nothing."""

    MAX_WRITES = 1

    def _write(self, connection: Connection, write: _Write) -> None:
        if write.count == 1:
            super()._write(connection, write)
        else:
            data = b"".join((_MULTI, _joined(write.batches), _EXEC))
            connection.send(data, write.receive_transaction, replies=write.count + 2, timeout_s=self._timeout_s)


class MarketOutbox(Outbox):
    """The oldest is dropped first when there is too much, and a gap message takes its place."""

    def __init__(
        self,
        max_entries: int,
        max_bytes: int,
        on_settled: Callable[[BusError | None], None],
        timeout_s: float = REPLY_TIMEOUT_S,
        delays: Histogram | None = None,
    ) -> None:
        super().__init__(max_entries, max_bytes, on_settled, timeout_s, delays)
        self._lossy: set[Lane] = set()

    def add(self, batch: Batch) -> None:
        super().add(batch)
        while self.over_bounds and (self._returned or self._backlog):
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Give up the oldest batch that is not on its way, or as much of it as makes room enough."""
        source = self._returned or self._backlog
        batch = source.popleft()
        needed = self.entries - self.max_entries + 1  # one more, for the gap message that comes instead
        if self.bytes <= self.max_bytes and needed < len(batch.chunks):
            rest, batch = batch.part(needed, len(batch.chunks)), batch.part(0, needed)
            source.appendleft(rest)
        freed = batch.lane.drop(batch)
        self.entries -= freed
        self.settled += freed
        self.bytes -= batch.size
        if batch.retried:
            self.retrying -= len(batch.chunks)
        self._lossy.add(batch.lane)

    def pump(self, connection: Connection) -> None:
        super().pump(connection)
        if self._lossy and not self._backlog and not self._returned:  # nothing follows that could bring the gaps along
            for lane in tuple(self._lossy):
                self._backlog.extend(self._gaps_of(lane))
            super().pump(connection)

    def _take(self) -> tuple[list[Batch], int]:
        batches, count = super()._take()
        if self._lossy:
            told = [part for batch in batches for part in (*self._gaps_of(batch.lane), batch)]
            return told, count + len(told) - len(batches)
        return batches, count

    def _gaps_of(self, lane: Lane) -> list[Batch]:
        if lane not in self._lossy:
            return []
        self._lossy.discard(lane)
        gaps = lane.take_gaps()
        self.bytes += sum(gap.size for gap in gaps)
        return gaps


def _joined(batches: list[Batch]) -> bytes:
    return b"".join(chain.from_iterable([batch.chunks for batch in batches]))
