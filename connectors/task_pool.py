"""A bounded number of short tasks with one owner."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class PoolFull(Exception):
    """As many tasks run as may."""


class TaskPool:
    """Runs what a callback cannot wait for. A task that fails is logged and counted; it never ends its owner."""

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self.failures = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Start a task; raises PoolFull (and closes the coroutine) at the limit."""
        if len(self._tasks) >= self._limit:
            work.close()
            raise PoolFull(f"{self._limit} tasks run already")
        task = asyncio.get_running_loop().create_task(self._guarded(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception:
            self.failures += 1
            log.exception("task.failed", task=name)

    async def idle(self, grace_s: float) -> None:
        """Wait up to `grace_s` for all tasks, then cancel the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
