"""What the system tells of a worker from outside: whether it ran, how much it holds, whether it has company."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = resource.getpagesize()
_LINUX: Final = Path("/proc/self/stat").exists()


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor seconds used, seconds ready to run without a processor, and threads, since the process began."""

    cpu_s: float
    starved_s: float
    threads: int


def usage_of(pid: int) -> Usage | None:
    """What the process has used so far; None when it is gone."""
    if not _LINUX:
        return _usage_elsewhere(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    try:
        ran_ns, waited_ns, _ = Path(f"/proc/{pid}/schedstat").read_bytes().split()
    except (OSError, ValueError):  # a kernel without these figures
        return Usage(cpu_s, 0.0, int(fields[17]))
    return Usage(int(ran_ns) / 1e9, int(waited_ns) / 1e9, int(fields[17]))


def memory_of(pid: int) -> int:
    """Bytes of memory that the process holds, those included that it shares; 0 when it is gone."""
    if not _LINUX:
        return _memory_elsewhere(pid)
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def company_of(pid: int) -> int:
    """How many processes the process has started and not outlived; 0 where it cannot be told."""
    if not _LINUX:
        return _company_elsewhere(pid)
    try:
        return len(Path(f"/proc/{pid}/task/{pid}/children").read_bytes().split())
    except OSError:
        return 0


# psutil is needed elsewhere than on Linux only, where reading two files is quicker and tells more


def _usage_elsewhere(pid: int) -> Usage | None:
    import psutil

    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return Usage(times.user + times.system, 0.0, process.num_threads())
    except psutil.Error:
        return None


def _memory_elsewhere(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _company_elsewhere(pid: int) -> int:
    import psutil

    try:
        return len(psutil.Process(pid).children())
    except psutil.Error:
        return 0
