"""Waiting for conditions, never for time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(condition: Callable[[], T | Awaitable[T]], timeout_s: float = 10.0, what: str = "") -> T:
    """Return the condition's first truthy result; fail with the last result when `timeout_s` has passed."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        result = condition()
        value: T = await result if inspect.isawaitable(result) else result  # type: ignore[assignment]
        if value:
            return value
        if time.monotonic() > deadline_s:
            raise AssertionError(f"{what or 'the condition'} did not become true within {timeout_s} s: last {value!r}")
        await asyncio.sleep(0.01)
