"""How long a worker may be at one request: wall time, but for what was not its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bot.isolation.process_view import Usage

TICK_S: Final = 0.1
MOST_PER_TICK_S: Final = 0.2
"""A tick counts for at most this much: a bot or a machine that stood still does not blame the plugin."""
STARVED_FACTOR: Final = 10
"""A worker that waits for a processor gets at most so many times its time."""


@dataclass(slots=True)
class Patience:
    """`limit_s` is what one request may take. Ask every `TICK_S`."""

    limit_s: float
    _request: int = -1
    _waited_s: float = 0.0
    _before: Usage | None = None

    def lost(self, request: int, elapsed_s: float, usage: Usage | None, factor: float = 1.0) -> tuple[float, float] | None:
        """Whether the worker has been too long at request number `request`, of which it knows since the last call.

        Returns the seconds that it has had and the processor seconds that it used, None while all is well. `usage` is of now.
        `factor` stretches the limit for requests that may take longer.
        """
        if request != self._request or self._before is None:
            self._request, self._waited_s, self._before = request, 0.0, usage
            return None
        self._waited_s += min(elapsed_s, MOST_PER_TICK_S)
        if usage is None:
            return None
        had_s = self._waited_s - (usage.starved_s - self._before.starved_s)
        limit_s = self.limit_s * factor
        if had_s < limit_s and self._waited_s < STARVED_FACTOR * limit_s:
            return None
        return had_s, usage.cpu_s - self._before.cpu_s
