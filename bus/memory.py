"""The bus without a server: the same interfaces and the same promises within one process, for tests, backtests and replays.

Messages are encoded and decoded as on the real bus, so that what works here works there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import force_setattr

from bus.codec import encode
from bus.delivery import Deliverer, Entry, Letter
from bus.interfaces import BatchHandler, TailHandler
from bus.stream_info import id_key
from bus.streams import Stream
from bus.tail import Tail
from common_models import Message
from runtime.clock import now_ns


@dataclass(slots=True)
class MemoryGroup:
    """What a group has read, and what its consumer has in hand with the count of trials."""

    last_id: str = "0-0"
    pending: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class MemoryStream:
    entries: deque[tuple[str, bytes]] = field(default_factory=deque)
    groups: dict[str, MemoryGroup] = field(default_factory=dict)
    added: int = 0

    @property
    def last_id(self) -> str:
        return f"{self.added}-0"

    def after(self, entry_id: str, count: int) -> list[tuple[str, bytes]]:
        """Up to `count` entries behind an id. Ids count up by one, so the place of the first is known."""
        if not self.entries:
            return []
        first = id_key(self.entries[0][0])[0]
        start = max(0, id_key(entry_id)[0] - first + 1)
        return [self.entries[index] for index in range(start, min(start + count, len(self.entries)))]

    def body(self, entry_id: str) -> bytes | None:
        found = self.after(f"{id_key(entry_id)[0] - 1}-0", 1)
        return found[0][1] if found and found[0][0] == entry_id else None


class MemoryBus:
    """All streams of one process. `letters` are the dead letters."""

    def __init__(self) -> None:
        self.streams: dict[str, MemoryStream] = {}
        self.letters: list[Letter] = []
        self._changed = asyncio.Event()

    def stream(self, name: str) -> MemoryStream:
        return self.streams.setdefault(name, MemoryStream())

    def add(self, stream: Stream, body: bytes) -> str:
        """Append an entry as XADD does, within the stream's length bound."""
        kept = self.stream(stream.name)
        kept.added += 1
        kept.entries.append((kept.last_id, body))
        while stream.max_entries and len(kept.entries) > stream.max_entries:
            kept.entries.popleft()
        self._changed.set()
        return kept.last_id

    async def changed(self, stop: asyncio.Event) -> None:
        """Wait until something was added, or stop is set."""
        self._changed.clear()
        waits = [asyncio.ensure_future(event.wait()) for event in (self._changed, stop)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


class MemoryPublisher:
    """`bus.interfaces.Publisher` on a MemoryBus: what is put is there at once."""

    def __init__(self, bus: MemoryBus, producer: str, epoch: str = "1") -> None:
        self.producer = producer
        self.epoch = epoch
        self._bus = bus
        self._sequences: dict[str, int] = {}

    async def start(self) -> None:
        """Nothing to connect to."""

    def put(self, stream: Stream, message: Message) -> str:
        sequence = self._sequences.get(stream.name, 0) + 1
        message_id = f"{self.producer}.{stream.label}:{self.epoch}:{sequence}"
        force_setattr(message, "message_id", message_id)
        force_setattr(message, "ts_pub_ns", now_ns())
        self._bus.add(stream, encode(message))
        self._sequences[stream.name] = sequence
        return message_id

    def put_many(self, stream: Stream, messages: Iterable[Message]) -> None:
        for message in messages:
            self.put(stream, message)

    async def flushed(self) -> None:
        """Everything is stored already."""

    async def room(self) -> None:
        """There always is."""

    async def close(self, grace_s: float = 5.0) -> int:
        return 0


class MemoryReader:
    """`bus.interfaces.Reader` on a MemoryBus."""

    COUNT = 256

    def __init__(self, bus: MemoryBus, streams: Sequence[Stream], start: str | Mapping[str, str] = "$") -> None:
        self._bus = bus
        self._tails: list[Tail] = []
        for stream in streams:
            position = start if isinstance(start, str) else start.get(stream.name, "0")
            self._tails.append(Tail(stream.name, bus.stream(stream.name).last_id if position == "$" else position))

    @property
    def positions(self) -> dict[str, str]:
        return {tail.name: tail.position for tail in self._tails}

    @property
    def missed(self) -> int:
        return sum(tail.missed for tail in self._tails)

    async def run(self, handle: TailHandler, stop: asyncio.Event) -> None:
        while not stop.is_set():
            taken = 0
            for tail in self._tails:
                entries = self._bus.stream(tail.name).after(tail.position, self.COUNT)
                taken += len(entries)
                for entry_id, body in entries:
                    tail.take(entry_id, body, handle)
            if taken:
                await asyncio.sleep(0)  # others have their turn between two reads, as with a socket
            else:
                await self._bus.changed(stop)


class MemoryConsumer:
    """`bus.interfaces.Consumer` on a MemoryBus."""

    def __init__(self, bus: MemoryBus, streams: Sequence[Stream], group: str, batch: int = 256, start: str = "0") -> None:
        self.group = group
        self.work: Deliverer | None = None
        self._bus = bus
        self._names = [stream.name for stream in streams]
        self._batch = batch
        for name in self._names:
            stream = bus.stream(name)
            stream.groups.setdefault(group, MemoryGroup(stream.last_id if start == "$" else start))

    async def run(self, handle: BatchHandler, stop: asyncio.Event) -> None:
        work = self.work = Deliverer(self, self.group, handle, stop, self._batch)
        for name in self._names:
            await work.deliver_again(
                [Entry(name, entry_id, self._bus.stream(name).body(entry_id)) for entry_id in self._pending(name)]
            )
        while not stop.is_set():
            entries = [entry for name in self._names for entry in self._read(name)]
            if entries:
                await work.deliver(entries)
                await asyncio.sleep(0)  # others have their turn between two reads, as with a socket
            else:
                await self._bus.changed(stop)

    def _read(self, name: str) -> list[Entry]:
        stream = self._bus.stream(name)
        group = stream.groups[self.group]
        entries = [Entry(name, entry_id, body) for entry_id, body in stream.after(group.last_id, self._batch)]
        if entries:
            group.last_id = entries[-1].entry_id
            group.pending.update((entry.entry_id, 0) for entry in entries)
        return entries

    def _pending(self, name: str) -> dict[str, int]:
        return self._bus.stream(name).groups[self.group].pending

    # GroupBackend

    def acknowledge(self, stream: str, entry_id: str) -> None:
        self._pending(stream).pop(entry_id, None)

    async def park(self, letter: Letter) -> None:
        self._bus.letters.append(letter)
        self.acknowledge(letter.stream, letter.entry_id)

    async def begin_trial(self, stream: str, entry_id: str) -> int:
        trials = self._pending(stream).get(entry_id, 0)
        self._pending(stream)[entry_id] = trials + 1
        return trials

    async def undo_trial(self, stream: str, entry_id: str) -> None:
        self._pending(stream)[entry_id] = 0
