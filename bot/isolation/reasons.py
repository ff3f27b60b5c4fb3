"""Why a worker is no more, in words for the person whose plugin it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import Final

import msgspec

from bot.isolation.protocol import Beat, Frame, History, Load, Save, Start
from bot.isolation.worker import EXIT_HANG_UP, EXIT_MEMORY

CLOSED: Final = "closed its connection to the bot"

_REQUESTS: Final[dict[type[Frame], str]] = {
    Start: "loading the file",
    History: "reading the past",
    Beat: "heartbeat",
    Save: "on_save",
    Load: "on_load",
}
_CALLBACKS: Final = {"ticker": "on_ticker", "trade": "on_trade", "aggregate": "on_trade", "book": "on_book", "candle": "on_candle"}


class _Event(msgspec.Struct):
    kind: str = ""


def of_ending(status: int, memory_mb: int) -> str:
    """Why a process has ended that nobody ended; `status` is as from waitpid()."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        hint = " (by the system, out of memory?)" if number == signal.SIGKILL else ""
        return f"killed by signal {signal.Signals(number).name}{hint}"
    code = os.waitstatus_to_exitcode(status)
    if code == EXIT_MEMORY:
        return f"memory: needed more than {memory_mb} MB"
    return CLOSED if code == EXIT_HANG_UP else f"ended itself with exit code {code} (os._exit?)"


def of_not_returning(request: type[Frame], events: Iterable[bytes], had_s: float, cpu_s: float) -> str:
    """Why a request is given up after `had_s`, in which the worker computed for `cpu_s`; `events` are those that it was to take."""
    what = _REQUESTS.get(request) or " or ".join(sorted({_callback_of(event) for event in events}))
    if cpu_s >= had_s / 2:
        return f"endless loop: {what} used {cpu_s:.1f} s of CPU without returning"
    return f"hangs: {what} did not return for {had_s:.1f} s"


def _callback_of(event: bytes) -> str:
    return _CALLBACKS.get(msgspec.json.decode(event, type=_Event).kind, "a callback")
