"""What one message to a person is, and what every way of sending it can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from common_models import AlertLevel


@dataclass(frozen=True, slots=True)
class Notification:
    """One message, ready to be sent. The same notification may arrive twice after a crash (at least once)."""

    number: int  # its place in the outbox: rises by one, the same after a repeat
    level: AlertLevel
    event: str  # the name in `alerts.notify`, for instance "fill"
    title: str  # one plain line
    text: str  # plain text, may be empty and may have many lines
    silent: bool  # to be shown without a sound
    key: str  # what belongs together: repeats of the same trouble have the same key
    alert_id: str  # for /ack; empty when there is nothing to acknowledge (a digest)
    created_ns: int


class RetryLater(Exception):
    """The far side did not take it now; the same message is tried again after `after_s` seconds (None: the usual wait).

    `reason` is shown in logs and health: it never holds a URL or a token.
    """

    def __init__(self, after_s: float | None, reason: str) -> None:
        super().__init__(reason)
        self.after_s = after_s
        self.reason = reason


class Undeliverable(Exception):
    """The far side will never take this message; `reason` never holds a URL or a token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Channel(Protocol):
    """A way to reach people. One delivery at a time; a slow channel holds only itself."""

    @property
    def name(self) -> str: ...

    async def deliver(self, notification: Notification) -> None:
        """Return when the far side has taken the message; raise RetryLater or Undeliverable otherwise."""
        ...
