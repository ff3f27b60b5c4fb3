"""What is known of one trouble: from the first time that it was told until somebody or something ended it."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from common_models import AlertLevel


class AlertPhase(StrEnum):
    """Where an alert is in its life."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"  # somebody has seen it: no more escalation
    RESOLVED = "resolved"


class AlertState(msgspec.Struct, kw_only=True):
    """One trouble of level WARNING and above; repeats of the same `key` count up here. Times in UTC nanoseconds.

    `alert_id` is short, for people to type. `changed_by` says who or what put it into its `phase`.
    """

    alert_id: str
    key: str
    level: AlertLevel
    category: str
    source: str
    code: str
    event: str
    title: str
    text: str
    exchange: str = ""
    symbol: str = ""
    details: dict[str, str] = {}
    count: int = 1
    first_ns: int
    last_ns: int
    phase: AlertPhase = AlertPhase.OPEN
    changed_by: str = ""
    changed_ns: int = 0
    escalations: int = 0
    escalate_ns: int = 0  # when to say it again, louder; 0 is never
