"""Looking after processes, consumers, dead letters and the disk, every few seconds."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from alerts.figures import duration
from alerts.report import Report
from alerts.rules.models import DeadLetterRule, DiskRule, DownRule, LagRule, RestartRule
from alerts.rules.voice import Lasting, Memory, Voice
from bus.connection import Connection
from bus.errors import ServerError
from bus.stream_info import id_key, stream_info
from bus.streams import Stream
from runtime.clock import now_ns

MB = 1_000_000
MAX_LETTERS = 100
RUNS = frozenset({"ready", "done", "waiting", "starting", "stopping", "stopped"})
"""States of the supervisor that are no trouble, or belong to starting and stopping a stack."""


OpenBus = Callable[[], Awaitable[Connection]]
"""Gives the connection that probes share; raises BusError when the bus is away, which is no concern of those that do not ask."""


class Probe(Protocol):
    """Looks at something outside the streams of messages; raises OSError or BusError when it cannot be looked at now."""

    every_s: float

    async def look(self, bus: OpenBus) -> list[Report]: ...


class ProcessProbe:
    """What `tradebot up` writes about its processes; without it (each process in a container) there is nothing to see."""

    every_s = 1.0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written_ns = 0

    def processes(self) -> list[dict[str, Any]] | None:
        """The supervisor's rows when they have changed since the last call, else None."""
        try:
            written_ns = self._path.stat().st_mtime_ns
            if written_ns == self._written_ns:
                return None
            rows: list[dict[str, Any]] = msgspec.json.decode(self._path.read_bytes())["processes"]
        except (FileNotFoundError, msgspec.DecodeError, KeyError, TypeError):
            return None
        self._written_ns = written_ns
        return rows


class RestartProbe(ProcessProbe):
    def __init__(self, path: Path, voice: Voice, _: RestartRule, memory: Memory) -> None:
        super().__init__(path)
        self._voice = voice
        self._memory = memory

    async def look(self, bus: OpenBus) -> list[Report]:
        return list(self._look(self.processes() or []))

    def _look(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[Report]:
        """The supervisor counts from 0 each time that it starts; a count that rose is a process that ended and came back."""
        for row in rows:
            name, restarts = str(row["name"]), int(row["restarts"])
            key = f"{self._voice.name}/{name}"
            before = int(self._memory.get(key) or 0)
            if restarts != before:
                self._memory.put(key, str(restarts))
            if restarts > before:
                values = {"process": name, "restarts": str(restarts), "reason": str(row.get("last_end") or row.get("detail") or "")}
                yield self._voice.say(name, values, now_ns())


class DownProbe(ProcessProbe):
    def __init__(self, path: Path, voice: Voice, rule: DownRule, memory: Memory) -> None:
        super().__init__(path)
        self._lasting = Lasting(voice, rule, memory)

    async def look(self, bus: OpenBus) -> list[Report]:
        found: list[Report] = []
        for row in self.processes() or []:
            found += self._judge(str(row["name"]), str(row["state"]), str(row.get("last_end") or row.get("detail") or ""))
        return [*found, *self._lasting.tick(now_ns())]

    def _judge(self, name: str, state: str, reason: str) -> Iterator[Report]:
        def values(age_ns: int) -> dict[str, str]:
            return {"process": name, "state": state, "reason": reason, "age": duration(age_ns)}

        if state not in RUNS:
            return self._lasting.wrong(name, now_ns(), values)
        return self._lasting.right(name, now_ns(), values(0)) if state in ("ready", "done") else iter(())


class DiskProbe:
    every_s = 10.0

    def __init__(self, home: Path, voice: Voice, rule: DiskRule, memory: Memory, limit_mb: int) -> None:
        self._lasting = Lasting(voice, rule, memory)
        self._home = home
        self._limit_mb = limit_mb

    async def look(self, bus: OpenBus) -> list[Report]:
        free_mb = shutil.disk_usage(self._home).free // MB
        values = {"path": str(self._home), "free_mb": str(free_mb), "limit_mb": str(self._limit_mb)}
        if free_mb < self._limit_mb:
            return list(self._lasting.wrong("home", now_ns(), lambda _: values))
        return list(self._lasting.right("home", now_ns(), values))


class LagProbe:
    every_s = 5.0

    def __init__(self, streams: Sequence[Stream], voice: Voice, rule: LagRule, memory: Memory) -> None:
        self._lasting = Lasting(voice, rule, memory)
        self._rule = rule
        self._names = [stream.name for stream in streams]

    async def look(self, bus: OpenBus) -> list[Report]:
        found: list[Report] = []
        connection = await bus()
        for name in self._names:
            for group, entries in (await _lags(connection, name)).items():
                if self._rule.groups and group not in self._rule.groups:
                    continue
                subject = f"{group}|{name}"
                values = {"group": group, "stream": name, "entries": str(entries)}
                if entries >= self._rule.entries:
                    found += self._lasting.wrong(subject, now_ns(), lambda _, values=values: values)  # type: ignore[misc]
                else:
                    found += self._lasting.right(subject, now_ns(), values)
        return found


async def _lags(bus: Connection, name: str) -> dict[str, int]:
    """How many entries each group of a stream has not read or not acknowledged; nothing for a stream that does not exist."""
    try:
        rows = await bus.command("XINFO", "GROUPS", name)
    except ServerError as error:
        if error.code == "ERR":  # no such key
            return {}
        raise
    groups = [dict(zip(row[::2], row[1::2], strict=True)) for row in rows]
    return {row[b"name"].decode(): int(row.get(b"lag") or 0) + int(row[b"pending"]) for row in groups}


class DeadLetterProbe:
    """Letters that came since the last look; what lay there before the first one is old news."""

    every_s = 2.0

    def __init__(self, letters: Stream, voice: Voice, _: DeadLetterRule, memory: Memory) -> None:
        self._voice = voice
        self._name = letters.name
        self._memory = memory
        self._key = f"{voice.name}/seen"

    async def look(self, bus: OpenBus) -> list[Report]:
        seen = self._memory.get(self._key)
        connection = await bus()
        last_id = (await stream_info(connection, self._name)).last_id
        if seen is None or id_key(last_id) < id_key(seen):  # the first look, or the server lost the stream
            self._memory.put(self._key, last_id if seen is None else "0-0")
            return []
        rows = await connection.command("XRANGE", self._name, f"({seen}", "+", "COUNT", MAX_LETTERS) if last_id != seen else []
        return [self._letter(letter_id.decode(), fields) for letter_id, fields in rows]

    def _letter(self, letter_id: str, fields: Sequence[bytes]) -> Report:
        self._memory.put(self._key, letter_id)
        texts = {name.decode(): value for name, value in zip(fields[::2], fields[1::2], strict=False)}
        values = {name: texts.get(name, b"").decode(errors="replace")[:200] for name in ("stream", "group", "error")}
        subject = f"{values['group']}|{values['stream']}"
        return self._voice.say(subject, {**values, "letter_id": letter_id}, now_ns(), details={"letter": letter_id})
