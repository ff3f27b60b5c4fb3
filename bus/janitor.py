"""Trimming what everybody has, and nothing else (reference/faults.md G4, B06).

Redis's own MAXLEN drops unread entries without a word, so lossless streams are written without it. This loop trims a stream that
is larger than its bound, and only behind the slowest group that is *required*. Optional groups that are further behind lose
entries, which the report tells. Trades have a hard bound: beyond it they go even unread, and their readers see the gap.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bus.lag import GroupLag, StreamLag, measure_stream
from bus.server_figures import ServerFigures
from bus.stream_info import id_key
from bus.streams import Stream, StreamClass
from runtime.metrics import expose_counter

log = structlog.get_logger(__name__)

KEEP_SHARE = 0.8
"""A stream beyond its bound is trimmed to this share of it, so that not each entry trims one."""
MAX_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Rule:
    """How long entries of a stream are kept: up to `max_bytes`, and beyond that as long as a `required` group needs them."""

    stream: Stream
    required: frozenset[str]
    max_bytes: int


@dataclass(frozen=True, slots=True)
class CutOff:
    """A group that lost entries. `required` groups lose only trades beyond their hard bound."""

    stream: str
    group: str
    required: bool
    first_lost: str  # the first entry that it still needed
    kept_from: str  # the first entry that is left


@dataclass(slots=True)
class Report:
    """What one sweep did. `over_bound` are streams that are too large and may not be trimmed: someone required lags."""

    trimmed: dict[str, int] = field(default_factory=dict)
    cut_off: list[CutOff] = field(default_factory=list)
    over_bound: dict[str, int] = field(default_factory=dict)
    removed_consumers: list[tuple[str, str, str]] = field(default_factory=list)


class Janitor:
    """Sweeps the streams of its rules every `every_s`. Market streams bound themselves; rules for them only tidy their groups."""

    def __init__(self, redis: Redis, rules: Sequence[Rule], every_s: float = 5.0, consumer_idle_s: float = 3600.0) -> None:
        self.trimmed = 0
        self.errors = 0
        self.figures = ServerFigures()
        self._redis = redis
        self._rules = rules
        self._every_s = every_s
        self._consumer_idle_ms = consumer_idle_s * 1000

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until `stop` is set; a server that is away is tried again at the next turn."""
        expose_counter("tradebot_bus_trimmed_entries", "Entries trimmed by the janitor", {}, lambda: self.trimmed)
        expose_counter("tradebot_bus_janitor_errors", "Sweeps that failed", {}, lambda: self.errors)
        self.figures.expose()
        while not stop.is_set():
            try:
                report = await self.sweep()
            except (RedisError, OSError) as error:
                self.errors += 1
                self.figures.reachable = False
                log.warning("bus.sweep_failed", error=str(error))
            else:
                self._tell(report)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await stop.wait()

    async def sweep(self) -> Report:
        """Trim and tidy every stream once; raises RedisError when the server cannot be asked."""
        report = Report()
        await self.figures.take_server(self._redis)
        for rule in self._rules:
            lag = await measure_stream(self._redis, rule.stream.name)
            await self.figures.take_stream(self._redis, rule.stream.label, lag)
            if lag is None:
                continue
            if rule.stream.stream_class is not StreamClass.MARKET and lag.bytes > rule.max_bytes:
                await self._trim(rule, lag, report)
            await self._remove_idle_consumers(lag, report)
        self.trimmed += sum(report.trimmed.values())
        return report

    async def _trim(self, rule: Rule, lag: StreamLag, report: Report) -> None:
        name = rule.stream.name
        safe = safe_id(rule, lag)
        removed, size = await self._trim_to_bound(rule, lag.bytes, safe) if safe is not None else (0, lag.bytes)
        if size > rule.max_bytes and rule.stream.stream_class is StreamClass.TRADES:
            more, size = await self._trim_to_bound(rule, size, None)
            removed += more
        if size > rule.max_bytes:
            report.over_bound[name] = size
        if not removed:
            return
        report.trimmed[name] = removed
        first: Any = await self._redis.xrange(name, count=1)
        kept_from = first[0][0].decode() if first else lag.last_id
        for group in lag.groups:
            if group.lag != 0 or group.pending:
                report.cut_off += _cut_off(rule, group, kept_from)

    async def _trim_to_bound(self, rule: Rule, size: int, safe: str | None) -> tuple[int, int]:
        """Remove the oldest entries until the stream has KEEP_SHARE of its bound, but none from `safe` on (None: any).

        Returns how many were removed and the bytes that are left. Sizes are averages, so this takes a few rounds.
        """
        name, removed = rule.stream.name, 0
        for _ in range(MAX_ROUNDS):
            length = await self._redis.xlen(name)
            excess = math.ceil(length * (1 - KEEP_SHARE * rule.max_bytes / size))
            if excess <= 0:
                break
            if safe is None:
                gone = await self._redis.xtrim(name, maxlen=length - excess, approximate=False)
            else:  # with LIMIT the server removes whole nodes of some KB, up to so many entries
                gone = await self._redis.xtrim(name, minid=safe, approximate=True, limit=excess)
            removed += gone
            size = await self._redis.memory_usage(name) or 0
            if not gone or not size:
                break
        return removed, size

    async def _remove_idle_consumers(self, lag: StreamLag, report: Report) -> None:
        """Names that read nothing for long and have nothing in hand: left behind by processes that are no more."""
        for group in lag.groups:
            if group.consumers < 2:
                continue
            for consumer in await self._redis.xinfo_consumers(lag.name, group.name):
                if consumer["pending"] == 0 and consumer["idle"] > self._consumer_idle_ms:
                    await self._redis.xgroup_delconsumer(lag.name, group.name, consumer["name"])
                    report.removed_consumers.append((lag.name, group.name, consumer["name"].decode()))

    def _tell(self, report: Report) -> None:
        for name, size in report.over_bound.items():
            log.error("bus.stream_over_bound", stream=name, bytes=size, advice="a required group lags: see `tradebot bus lag`")
        for cut in report.cut_off:
            log.warning("bus.group_cut_off", stream=cut.stream, group=cut.group, required=cut.required, kept_from=cut.kept_from)


def safe_id(rule: Rule, lag: StreamLag) -> str | None:
    """The first entry that a required group still needs; None when one of them has not even come yet."""
    groups = {group.name: group for group in lag.groups}
    if not rule.required <= groups.keys():
        return None
    needed = [groups[name].first_needed for name in rule.required]
    return min(needed, key=id_key) if needed else lag.last_id


def _cut_off(rule: Rule, group: GroupLag, kept_from: str) -> list[CutOff]:
    if id_key(group.first_needed) >= id_key(kept_from):
        return []
    return [CutOff(rule.stream.name, group.name, group.name in rule.required, group.first_needed, kept_from)]
