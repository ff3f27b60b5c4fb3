"""Consuming lossless streams in a group: at least once from the server, once in effect after dropping copies.

A session on one connection: make the groups, tell what was trimmed meanwhile, take what this consumer had in hand before a
crash, take over what dead consumers of the group had in hand, then read what is new. Acknowledgements travel with the next read.
One consumer per group at a time keeps the order (reference/faults.md §1.5).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import structlog

from bus.connection import REPLY_TIMEOUT_S, Connection, Reply, pack
from bus.delivery import Deliverer, Entry, Letter
from bus.delivery_times import DeliveryTimes
from bus.errors import AuthRefused, BusError, BusUnavailable, NoGroup, ServerError
from bus.gaps import stream_gap
from bus.interfaces import BatchHandler, Delivery, Retry
from bus.lanes import FIELD
from bus.stream_info import StreamInfo, id_key, stream_info
from bus.streams import Stream, dead_letters_beside
from runtime.backoff import Backoff
from runtime.clock import monotonic_s, now_ns
from runtime.metrics import expose_counter

__all__ = ["Delivery", "Retry", "StreamConsumer"]

log = structlog.get_logger(__name__)

BLOCK_MS: Final = 2000
CLAIM_IDLE_MS: Final = 60_000
TRIAL: Final = 1000
"""The server's delivery counter counts reads; we count trials in its thousands, where reads cannot reach."""

_FIELD: Final = FIELD.encode()


class StreamConsumer:
    """One consumer of a group; see `bus.interfaces.Consumer`.

    `start` is where a group begins that does not exist yet: "0" for all that is there, "$" for what comes. `consumer_name` is
    stable over restarts, so that what was in hand is found again.
    """

    def __init__(
        self,
        url: str,
        streams: Sequence[Stream],
        group: str,
        consumer_name: str,
        batch: int = 256,
        start: str = "0",
        *,
        block_ms: int = BLOCK_MS,
        claim_idle_ms: int = CLAIM_IDLE_MS,
        reply_timeout_s: float = REPLY_TIMEOUT_S,
    ) -> None:
        if not streams:
            raise ValueError("a consumer needs at least one stream")
        self.group = group
        self.consumer_name = consumer_name
        self.connects = 0
        self.work: Deliverer | None = None
        self._url = url
        self._names = [stream.name for stream in streams]
        self._batch = batch
        self._start = start
        self._block_ms = block_ms
        self._answer_s = block_ms / 1000 + reply_timeout_s
        self._claim_idle_ms = claim_idle_ms
        self._acks: defaultdict[str, list[str]] = defaultdict(list)
        self._positions: dict[str, str] = {}  # the last entry dealt with, by stream
        self._connection: Connection | None = None

    async def run(self, handle: BatchHandler, stop: asyncio.Event) -> None:
        """Consume until `stop` is set. Raises AuthRefused when the server does not let us in, and nothing else."""
        work = self.work = Deliverer(self, self.group, handle, stop, self._batch, DeliveryTimes(self.group))
        self._expose_metrics(work)
        backoff = Backoff(first_s=0.05, cap_s=2.0, stable_s=5.0)
        stopping: asyncio.Future[object] = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                try:
                    await self._session(work, stopping)
                except AuthRefused:
                    raise
                except BusError as error:
                    wait_s = backoff.next_s()
                    log.warning("bus.consumer_reconnecting", group=self.group, error=str(error), wait_s=round(wait_s, 3))
                    await asyncio.wait({stopping}, timeout=wait_s)
        finally:
            stopping.cancel()

    # GroupBackend: what the deliverer asks for

    def acknowledge(self, stream: str, entry_id: str) -> None:
        self._acks[stream].append(entry_id)

    async def park(self, letter: Letter) -> None:
        connection = self._connected()
        fields = ("stream", letter.stream, "entry_id", letter.entry_id, "group", letter.group, "error", letter.error)
        add = ("XADD", dead_letters_beside(letter.stream).name, "*", *fields, "parked_ns", now_ns(), "payload", letter.payload)
        answers = [
            connection.command("MULTI"),
            connection.command(*add),
            connection.command("XACK", letter.stream, self.group, letter.entry_id),
            connection.command("EXEC"),
        ]
        for outcome in await asyncio.gather(*answers, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        self._advance(letter.stream, letter.entry_id)

    async def begin_trial(self, stream: str, entry_id: str) -> int:
        connection = self._connected()
        rows = await connection.command("XPENDING", stream, self.group, entry_id, entry_id, 1)
        trials = rows[0][3] // TRIAL if rows else 0
        await self._set_trials(stream, entry_id, trials + 1)
        return int(trials)

    async def undo_trial(self, stream: str, entry_id: str) -> None:
        await self._set_trials(stream, entry_id, 0)

    async def _set_trials(self, stream: str, entry_id: str, trials: int) -> None:
        claim = ("XCLAIM", stream, self.group, self.consumer_name, 0, entry_id, "RETRYCOUNT", trials * TRIAL + 1, "JUSTID")
        await self._connected().command(*claim)

    def _advance(self, stream: str, entry_id: str) -> None:
        if id_key(entry_id) > id_key(self._positions.get(stream, "0")):
            self._positions[stream] = entry_id

    def _connected(self) -> Connection:
        if self._connection is None:
            raise BusUnavailable("the consumer is not connected")
        return self._connection

    # one session

    async def _session(self, work: Deliverer, stopping: asyncio.Future[object]) -> None:
        """One connection, from its start to its end; raises what ended it, and returns when `stopping` is done."""
        connection = self._connection = await Connection.open(self._url, name=f"{self.group}.{self.consumer_name}")
        try:
            self.connects += 1
            while not stopping.done():
                try:
                    await self._prepare_groups(connection, work)
                    await self._take_pending(connection, work, stopping)
                    await self._follow(connection, work, stopping)
                except NoGroup as error:
                    log.warning("bus.group_gone", group=self.group, error=error.text)
            await self._send_acks(connection)
        finally:
            self._connection = None
            connection.close()

    async def _prepare_groups(self, connection: Connection, work: Deliverer) -> None:
        """Make each group where it should begin, and tell what was trimmed while nobody read."""
        for name in self._names:
            info = await stream_info(connection, name)
            position = self._positions.get(name)
            if position is not None and id_key(info.last_id) < id_key(position):
                reason = f"the server lost the stream: its last entry is {info.last_id}, ours was {position}"
                log.error("bus.stream_restarted", stream=name, group=self.group, reason=reason)
                del self._positions[name]
                position = "0"
                await work.tell(stream_gap(name, reason))
            start = position or self._start
            read = {"0": ("ENTRIESREAD", info.removed), "$": ("ENTRIESREAD", info.added)}.get(start, ())
            try:
                await connection.command("XGROUP", "CREATE", name, self.group, start, "MKSTREAM", *read)
            except ServerError as error:
                if error.code != "BUSYGROUP":
                    raise
                await self._account_trimmed(connection, name, info, work)

    async def _account_trimmed(self, connection: Connection, name: str, info: StreamInfo, work: Deliverer) -> None:
        """Tell how many entries were trimmed before this group read them, once, by the server's own counts."""
        rows = await connection.command("XINFO", "GROUPS", name)
        groups = [dict(zip(row[::2], row[1::2], strict=True)) for row in rows]
        group = next((row for row in groups if row[b"name"] == self.group.encode()), None)
        read = group.get(b"entries-read") if group else None
        if group is None or read is None or info.removed <= read:
            return
        delivered = group[b"last-delivered-id"].decode()
        await connection.command("XGROUP", "SETID", name, self.group, delivered, "ENTRIESREAD", info.removed)
        lost = info.removed - read
        log.warning("bus.entries_trimmed_unread", stream=name, group=self.group, count=lost)
        await work.tell(stream_gap(name, "trimmed before this group read it", first=delivered, count=lost))

    async def _take_pending(self, connection: Connection, work: Deliverer, stopping: asyncio.Future[object]) -> None:
        """What this consumer had in hand and never acknowledged, then what consumers that are gone had."""
        await self._send_acks(connection)
        for name in self._names:
            cursor = "0"
            while not stopping.done():
                read = ("XREADGROUP", "GROUP", self.group, self.consumer_name, "COUNT", self._batch, "STREAMS", name, cursor)
                entries = _entries(await connection.command(*read))
                if not entries:
                    break
                cursor = entries[-1].entry_id
                await work.deliver_again(entries)
                await self._send_acks(connection)
        await self._claim(connection, work, stopping)

    async def _claim(self, connection: Connection, work: Deliverer, stopping: asyncio.Future[object]) -> None:
        """Take over entries that some consumer of this group has held for long without a word."""
        for name in self._names:
            cursor = "0-0"
            while not stopping.done():
                claim = ("XAUTOCLAIM", name, self.group, self.consumer_name, self._claim_idle_ms, cursor, "COUNT", self._batch)
                reply = await connection.command(*claim)
                entries = [*_rows(name, reply[1]), *(Entry(name, gone.decode(), None) for gone in reply[2])]
                if entries:
                    log.warning("bus.entries_claimed", stream=name, group=self.group, count=len(entries))
                    await work.deliver_again(entries)
                    await self._send_acks(connection)
                cursor = reply[0].decode()
                if cursor == "0-0":
                    break

    async def _follow(self, connection: Connection, work: Deliverer, stopping: asyncio.Future[object]) -> None:
        """Read what is new, acknowledging with each read what was handled before it."""
        head = ("XREADGROUP", "GROUP", self.group, self.consumer_name, "COUNT", self._batch, "BLOCK", self._block_ms)
        read = pack(*head, "STREAMS", *self._names, *[">"] * len(self._names))
        claimed_s = monotonic_s()
        while not stopping.done():
            answer = self._request(connection, read)
            await asyncio.wait({answer, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                answer.cancel()  # what it would have brought stays pending and comes first next time
                return
            await work.deliver(_entries(answer.result()))
            if monotonic_s() - claimed_s > self._claim_idle_ms / 1000:
                claimed_s = monotonic_s()
                await self._claim(connection, work, stopping)

    def _request(self, connection: Connection, read: bytes) -> asyncio.Future[Reply]:
        """Send acknowledgements and a read in one write; the future has the read's reply."""
        acks = self._take_acks()
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        left = len(acks) + 1

        def receive(reply: Reply) -> None:
            nonlocal left
            left -= 1
            if left or future.done():
                return  # an acknowledgement that was lost is made again when the entry comes back as pending
            if isinstance(reply, BusError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

        connection.send(b"".join((*acks, read)), receive, replies=left, timeout_s=self._answer_s)
        return future

    def _take_acks(self) -> list[bytes]:
        """The commands that acknowledge what was dealt with, and the positions that follow from it."""
        commands = []
        for name, ids in self._acks.items():
            commands.append(pack("XACK", name, self.group, *ids))
            self._advance(name, ids[-1])
        self._acks.clear()
        return commands

    async def _send_acks(self, connection: Connection) -> None:
        if self._acks:
            await self._request(connection, pack("PING"))

    def _expose_metrics(self, work: Deliverer) -> None:
        totals = {
            "tradebot_bus_handled_messages": ("Messages handled", "handled"),
            "tradebot_bus_copied_messages": ("Copies dropped", "copies"),
            "tradebot_bus_parked_messages": ("Messages moved to the dead letters", "parked"),
            "tradebot_bus_group_missed_messages": ("Messages lost to this group", "missed"),
            "tradebot_bus_handler_failures": ("Failures of the handler", "failures"),
            "tradebot_bus_handler_retries": ("Times the handler said: not now", "retries"),
        }
        labels = {"group": self.group, "consumer": self.consumer_name}
        for name, (help_text, total) in totals.items():
            expose_counter(name, help_text, labels, partial(getattr, work, total))


def _entries(reply: Any) -> list[Entry]:
    """All entries of a reply of XREADGROUP, stream by stream."""
    return [entry for name, rows in reply or () for entry in _rows(name.decode(), rows)]


def _rows(name: str, rows: Sequence[Any]) -> list[Entry]:
    return [Entry(name, entry_id.decode(), _body(fields)) for entry_id, fields in rows]


def _body(fields: list[bytes] | None) -> bytes | None:
    """The message's bytes; empty for an entry of another form, which no codec reads; None for one that is gone."""
    if fields is None:
        return None
    return fields[1] if len(fields) == 2 and fields[0] == _FIELD else b""
