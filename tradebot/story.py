"""What happened in a stack, for people: the last lines on the screen, all of them in the log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from runtime.clock import now_ns

log = structlog.get_logger(__name__)

KEPT = 200


@dataclass(frozen=True, slots=True)
class Line:
    """One sentence. `warning` marks what a person should look at."""

    ts_ns: int
    text: str
    warning: bool


@dataclass(slots=True)
class Story:
    """The latest lines, oldest first. `listener` hears each at once (the plain output)."""

    lines: deque[Line] = field(default_factory=lambda: deque(maxlen=KEPT))
    listener: Callable[[Line], None] | None = None

    def tell(self, text: str, *, warning: bool = False) -> None:
        line = Line(now_ns(), text, warning)
        self.lines.append(line)
        (log.warning if warning else log.info)("supervisor.told", text=text)
        if self.listener is not None:
            self.listener(line)
