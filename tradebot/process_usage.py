"""How much CPU and memory each process takes, its helpers included."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psutil

from runtime.clock import monotonic_s

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU in percent of one core since the last look, memory in MB (shared pages counted once where the system tells)."""

    cpu_percent: float
    memory_mb: float


class UsageMeter:
    """A process with its helpers is all that descends from it, and the session that it leads: a helper may outlive its parent."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[float, float]] = {}

    def measure(self, leaders: Iterable[int]) -> dict[int, Usage]:
        """The usage of these processes and their helpers. Takes some milliseconds: call it every few seconds."""
        sessions: dict[int, list[psutil.Process]] = defaultdict(list)
        wanted, parents = set(leaders), _parents()
        for pid in parents:
            with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
                leader = _first(wanted, pid, parents) or os.getsid(pid)
                if leader in wanted:
                    sessions[leader].append(psutil.Process(pid))
        now_s = monotonic_s()
        found: dict[int, Usage] = {}
        seen: dict[int, tuple[float, float]] = {}
        for leader, processes in sessions.items():
            cpu_s = sum(map(_cpu_s, processes))
            before_s, before_cpu_s = self._seen.get(leader, (now_s, cpu_s))
            percent = 100 * (cpu_s - before_cpu_s) / (now_s - before_s) if now_s > before_s else 0.0
            found[leader] = Usage(max(0.0, percent), sum(map(_memory_mb, processes)))
            seen[leader] = (now_s, cpu_s)
        self._seen = seen
        return found


def _parents() -> dict[int, int]:
    """The parent of every process."""
    found: dict[int, int] = {}
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error):
            found[pid] = psutil.Process(pid).ppid()
    return found


def _first(wanted: set[int], pid: int, parents: Mapping[int, int]) -> int:
    """The process itself or its nearest ancestor that is wanted; 0 when none is."""
    for _ in range(len(parents)):
        if pid in wanted or not pid:
            return pid
        pid = parents.get(pid, 0)
    return 0


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _memory_mb(process: psutil.Process) -> float:
    try:
        info = process.memory_full_info()
    except psutil.Error:
        return 0.0
    return float(getattr(info, "pss", 0) or info.rss) / MB
