"""Whether a server may carry the bus: what would lose acknowledged entries is refused in live mode (reference/faults.md M1, M3)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from bus.connection import Connection
from bus.errors import AuthRefused, ServerError

MIN_MAJOR_VERSION = 7
LIVE = "live"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the server. A fatal one forbids `mode` to start; the others are said and lived with."""

    code: str
    text: str
    fatal: bool


async def check_server(url: str, mode: str) -> list[Problem]:
    """Everything that is wrong, worst first. Raises BusUnavailable or AuthRefused when the server cannot be asked at all."""
    connection = await Connection.open(url, name="server-check")
    try:
        info = _fields((await connection.command("INFO", "everything")).decode())
        config = await _config(connection)
    finally:
        connection.close()
    live = mode == LIVE
    problems = _judge_version(info) + _judge_role(info)
    appendonly = config.get("appendonly", "yes" if info.get("aof_enabled") == "1" else "no")
    policy = config.get("maxmemory-policy", info.get("maxmemory_policy", ""))
    if appendonly != "yes":
        text = "the server keeps no append-only file: a restart loses every message; set `appendonly yes`"
        problems.append(Problem("BUS_NO_AOF", text, fatal=live))
    elif config.get("appendfsync") == "no":
        text = "`appendfsync no` leaves it to the system when data reaches the disk; set `everysec` or `always`"
        problems.append(Problem("BUS_NO_FSYNC", text, fatal=live))
    if policy != "noeviction":
        text = f"maxmemory-policy is {policy!r}: the server may throw whole streams away; set `noeviction`"
        problems.append(Problem("BUS_EVICTS", text, fatal=live))
    if info.get("maxmemory", "0") == "0":
        text = "`maxmemory` is not set: a full machine kills the server instead of a refused write"
        problems.append(Problem("BUS_NO_MEMORY_BOUND", text, fatal=False))
    if info.get("aof_last_write_status", "ok") != "ok":
        problems.append(Problem("BUS_DISK", "the server cannot write its append-only file: free some disk space", fatal=live))
    return sorted(problems, key=lambda problem: not problem.fatal)


async def _config(connection: Connection) -> dict[str, str]:
    """The settings that matter; none when the user may not read them (managed servers), and INFO has to do."""
    names = ("appendonly", "appendfsync", "maxmemory-policy")
    replies: list[Any] = await asyncio.gather(
        *(connection.command("CONFIG", "GET", name) for name in names), return_exceptions=True
    )
    found: dict[str, str] = {}
    for name, reply in zip(names, replies, strict=True):
        if isinstance(reply, AuthRefused) or (isinstance(reply, ServerError) and reply.code == "ERR"):
            continue
        if isinstance(reply, BaseException):
            raise reply
        if len(reply) == 2:
            found[name] = reply[1].decode()
    return found


def _judge_version(info: dict[str, str]) -> list[Problem]:
    version = info.get("valkey_version") or info.get("redis_version", "")
    major = version.partition(".")[0]
    if major.isdigit() and int(major) >= MIN_MAJOR_VERSION:
        return []
    return [
        Problem(
            "BUS_VERSION", f"the server's version is {version or 'unknown'}; {MIN_MAJOR_VERSION} or later is needed", fatal=True
        )
    ]


def _judge_role(info: dict[str, str]) -> list[Problem]:
    if info.get("role", "master") == "master":
        return []
    return [Problem("BUS_REPLICA", "the server is a replica and takes no writes: point bus.url at the primary", fatal=True)]


def _fields(text: str) -> dict[str, str]:
    """The `name:value` lines of INFO."""
    return dict(line.partition(":")[::2] for line in text.splitlines() if ":" in line)
