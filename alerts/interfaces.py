"""What the channels that listen (Telegram's /alerts and /ack, the command line) may ask of the alerts process."""

from __future__ import annotations

from typing import Protocol

from alerts.alert_state import AlertState


class NoSuchAlert(LookupError):
    """No alert that is still known has this id."""


class AlertDesk(Protocol):
    """The alerts that are known to this process; the truth while PostgreSQL is away too."""

    def active(self, limit: int = 50) -> list[AlertState]:
        """Open and acknowledged alerts: the worst level first, then the newest."""
        ...

    def acknowledge(self, alert_id: str, by: str) -> AlertState:
        """Somebody has seen it: no more escalation. Durable on return, harmless when repeated.

        Raises NoSuchAlert, and OSError when the disk does not take it: then it holds until the process ends.
        """
        ...

    def resolve(self, alert_id: str, by: str) -> AlertState:
        """It is over. As `acknowledge` otherwise."""
        ...
