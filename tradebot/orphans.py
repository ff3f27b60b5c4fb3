"""Processes that outlived their supervisor (it was killed): ended in the usual order before anything new starts.

Ended rather than adopted: a stop drains and loses nothing, the promises of each process cover it, and a stack whose processes
are all children of its supervisor has no second kind of process to watch, restart and reap.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from pathlib import Path

import psutil

from runtime.clock import monotonic_s
from tradebot.process_lock import ProcessLock, locks_in
from tradebot.process_plan import stop_signal, stop_stage
from tradebot.story import Story

SUPERVISOR = "supervisor"
POLL_S = 0.05
KILLED_WAIT_S = 10.0


def living(run_dir: Path) -> list[ProcessLock]:
    """The locks held by processes of this home directory, the supervisor's aside, in the order of stopping."""
    held = [lock for lock in locks_in(run_dir) if lock.name != SUPERVISOR and lock.held]
    return sorted(held, key=lambda lock: stop_stage(lock.name))


async def end_orphans(run_dir: Path, grace_s: float, story: Story) -> list[str]:
    """Stop what is still alive in this home directory; the names of what would not go, for the caller to refuse to start."""
    stubborn: list[str] = []
    for _, stage in itertools.groupby(living(run_dir), key=lambda lock: stop_stage(lock.name)):
        locks = list(stage)
        ended = await asyncio.gather(*(_end(lock, grace_s, story) for lock in locks))
        stubborn += [lock.name for lock, gone in zip(locks, ended, strict=True) if not gone]
    return stubborn


async def _end(lock: ProcessLock, grace_s: float, story: Story) -> bool:
    process = await asyncio.to_thread(lock.holder)
    if process is None:
        return not lock.held
    story.tell(f"{lock.name} (process {process.pid}) outlived its supervisor: stopping it first", warning=True)
    _send(process, stop_signal(lock.name))
    if await _freed(lock, grace_s):
        return True
    story.tell(f"{lock.name} did not stop in time: killed", warning=True)
    # Helpers may hold the lock after their parent: they too are looked up, until nobody holds it.
    deadline_s = monotonic_s() + KILLED_WAIT_S
    while (process := await asyncio.to_thread(lock.holder)) is not None and monotonic_s() < deadline_s:
        _send(process, signal.SIGKILL)
        if await _freed(lock, 1.0):
            break
    return not lock.held


def _send(process: psutil.Process, number: signal.Signals) -> None:
    """Signal the process; SIGKILL reaches its helpers too when it leads a group, as all children of a supervisor do."""
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
        if number is signal.SIGKILL and os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


async def _freed(lock: ProcessLock, within_s: float) -> bool:
    deadline_s = monotonic_s() + within_s
    while lock.held:
        if monotonic_s() > deadline_s:
            return False
        await asyncio.sleep(POLL_S)
    return True
