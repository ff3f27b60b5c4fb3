"""What the bus's server says of itself, for metrics: its memory and persistence, every stream, and how far each group is behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from bus.lag import GroupLag, StreamLag
from bus.streams import Streams
from runtime.clock import now_ns
from runtime.metrics import expose_counters, expose_gauge, expose_gauges


@dataclass(slots=True)
class ServerFigures:
    """The figures of the last look. While the server cannot be asked they stand, and `reachable` is false.

    `streams` is by label; `waiting_s` has the age of the oldest entry that a group has not finished, by stream and group.
    """

    reachable: bool = False
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    append_only: bool = False
    streams: dict[str, StreamLag] = field(default_factory=dict)
    waiting_s: dict[tuple[str, ...], float] = field(default_factory=dict)

    async def take_server(self, redis: Redis) -> None:
        """Ask for memory and persistence; raises RedisError."""
        memory, persistence = await redis.info("memory"), await redis.info("persistence")
        self.memory_bytes, self.memory_limit_bytes = memory["used_memory"], memory["maxmemory"]
        self.append_only = persistence["aof_enabled"] == 1 and persistence.get("aof_last_write_status") == "ok"
        self.reachable = True

    async def take_stream(self, redis: Redis, label: str, lag: StreamLag | None) -> None:
        """Note one stream (None: there is none), and ask since when each lagging group lags; raises RedisError."""
        self.waiting_s = {key: age_s for key, age_s in self.waiting_s.items() if key[0] != label}
        if lag is None:
            self.streams.pop(label, None)
            return
        self.streams[label] = lag
        for group in lag.groups:
            self.waiting_s[label, group.name] = await _waiting_s(redis, lag.name, group) if _behind(group) else 0.0

    def expose(self) -> None:
        """Publish all of it."""
        for name, text, read in (
            ("tradebot_bus_reachable", "Whether the last look at the server succeeded", lambda: self.reachable),
            ("tradebot_bus_memory_bytes", "Memory in use by the server", lambda: self.memory_bytes),
            ("tradebot_bus_memory_limit_bytes", "maxmemory of the server; 0 is none", lambda: self.memory_limit_bytes),
            ("tradebot_bus_append_only", "AOF is on and its last write succeeded", lambda: self.append_only),
            ("tradebot_bus_dead_letters", "Letters that wait for a person", self._dead_letters),
        ):
            expose_gauge(name, text, {}, read)
        by = ("stream",)
        expose_gauges("tradebot_bus_stream_entries", "Entries in the stream", {}, by, lambda: self._by_stream("length"))
        expose_gauges("tradebot_bus_stream_bytes", "Memory of the stream", {}, by, lambda: self._by_stream("bytes"))
        expose_counters("tradebot_bus_stream_added", "Entries ever added", {}, by, lambda: self._by_stream("added"))
        by_group = ("stream", "group")
        expose_gauges("tradebot_bus_group_lag_entries", "Entries that the group has not finished", {}, by_group, self._lags)
        expose_gauges("tradebot_bus_group_lag_seconds", "Age of the oldest of them", {}, by_group, lambda: self.waiting_s)

    def _by_stream(self, what: str) -> dict[tuple[str, ...], float]:
        return {(label,): getattr(lag, what) for label, lag in self.streams.items()}

    def _lags(self) -> dict[tuple[str, ...], float]:
        return {(label, group.name): _behind(group) for label, lag in self.streams.items() for group in lag.groups}

    def _dead_letters(self) -> float:
        found = self.streams.get(Streams("any").dead_letters.label)
        return found.length if found is not None else 0


def _behind(group: GroupLag) -> int:
    return group.pending + (group.lag or 0)


async def _waiting_s(redis: Redis, name: str, group: GroupLag) -> float:
    """The age of the first entry that the group still needs, by the server's own ids."""
    entries: Any = await redis.xrange(name, min=group.first_needed, count=1)
    if not entries:
        return 0.0
    milliseconds = int(entries[0][0].partition(b"-")[0])
    return max(0.0, now_ns() / 1e9 - milliseconds / 1e3)
