"""Denied decisions, told once and then counted, so that a silence is explained without a flood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from common_models import Decision
from common_models.timestamps import NS_PER_S

WINDOW_NS = 10 * NS_PER_S
MAX_KEYS = 10_000

Key = tuple[str, str, str, str]


@dataclass(slots=True)
class _Window:
    opened_ns: int
    repeats: int = 0
    last: Decision | None = None


class Denials:
    """Hands the first denial of each (strategy, exchange, symbol, code) on at once and joins those of the next ten seconds.

    The joined one carries the latest figures and `repeats`, how many it stands for.
    """

    def __init__(self, publish: Callable[[Decision], None], window_ns: int = WINDOW_NS) -> None:
        self._publish = publish
        self._window_ns = window_ns
        self._windows: dict[Key, _Window] = {}
        self.total = 0

    def deny(self, decision: Decision, now_ns: int) -> None:
        """Tell or count one denial."""
        self.total += 1
        key = (decision.strategy, decision.exchange, decision.symbol, decision.code)
        window = self._windows.get(key)
        if window is not None and now_ns - window.opened_ns < self._window_ns:
            window.repeats += 1
            window.last = decision
            return
        if window is not None:
            self._tell_repeats(window)
        elif len(self._windows) >= MAX_KEYS:
            self.flush(now_ns)
        self._windows[key] = _Window(now_ns)
        self._publish(decision)

    def flush(self, now_ns: int, *, everything: bool = False) -> None:
        """Tell what was counted in windows that are over (or in all of them); to be called every second or so."""
        for key, window in list(self._windows.items()):
            if everything or now_ns - window.opened_ns >= self._window_ns:
                del self._windows[key]
                self._tell_repeats(window)

    def _tell_repeats(self, window: _Window) -> None:
        if window.last is not None:
            numbers = window.last.numbers | {"repeats": str(window.repeats)}
            self._publish(msgspec.structs.replace(window.last, numbers=numbers))
