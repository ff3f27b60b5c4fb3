"""Short work beside the main loop, bounded, with an owner that waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)

MOST = 64
RESERVED = 32
"""Places that `spare` work never takes."""


class TaskPool:
    """At most MOST tasks at once. What a task raises is logged and ends that task alone."""

    def __init__(self) -> None:
        self.failures = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, spare: bool = False) -> bool:
        """Run it in a task of its own; False, and it never runs, when too many run already. `spare` work leaves room for other."""
        if len(self._tasks) >= (MOST - RESERVED if spare else MOST):
            work.close()
            return False
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def close(self, grace_s: float) -> None:
        """Let what runs finish within the time, then cancel it, and wait until all is over."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # the boundary of a task
            self.failures += 1
            log.exception("telegram.task_failed")
