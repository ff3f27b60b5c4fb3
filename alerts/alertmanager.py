"""Alerts of Prometheus' Alertmanager, posted to us by its webhook (version 4 of its payload).

Source: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus

import msgspec
import structlog

from alerts.report import Report
from common_models import AlertLevel
from runtime.clock import now_ns

log = structlog.get_logger(__name__)

PATH = "/alertmanager"
MAX_BYTES = 1_000_000
MAX_ALERTS = 1000
SOURCE = "prometheus"
LEVELS = {
    "info": AlertLevel.INFO,
    "warning": AlertLevel.WARNING,
    "error": AlertLevel.ERROR,
    "critical": AlertLevel.CRITICAL,
    "page": AlertLevel.CRITICAL,
}
ABOUT = ("severity", "alertname", "category", "event")
"""Labels that say how to tell an alert, not what it is about."""


class PromAlert(msgspec.Struct):
    """One alert of a group: Alertmanager sends it again and again while it fires, and once when it is over."""

    status: str
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    fingerprint: str = ""


class Payload(msgspec.Struct):
    """What a webhook receiver is posted."""

    alerts: list[PromAlert]


_decoder = msgspec.json.Decoder(Payload)


class AlertmanagerIntake:
    """Answers 200 when the alerts are durable, 503 when they cannot be (Alertmanager sends them again), 400 for other bodies."""

    def __init__(self, take: Callable[[Sequence[Report]], None]) -> None:
        self.malformed = 0
        self._take = take

    async def take(self, body: bytes) -> tuple[HTTPStatus, Mapping[str, object]]:
        """One post; `take` raises OSError when nothing is durable."""
        try:
            alerts = _decoder.decode(body).alerts
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.malformed += 1
            log.warning("alerts.alertmanager_malformed", reason=str(error)[:200])
            return HTTPStatus.BAD_REQUEST, {"error": f"not Alertmanager's webhook payload: {str(error)[:200]}"}
        if len(alerts) > MAX_ALERTS:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": f"more than {MAX_ALERTS} alerts: set max_alerts in Alertmanager"}
        try:
            self._take([report_of(alert) for alert in alerts])
        except OSError as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": f"cannot be stored now: {error.strerror}"}
        return HTTPStatus.OK, {"taken": len(alerts)}


def report_of(alert: PromAlert) -> Report:
    """Labels `severity`, `category` and `event` say how it is told; annotations `summary` and `description` are its words."""
    labels, notes = alert.labels, alert.annotations
    code = labels.get("alertname") or "PrometheusAlert"
    about = {name: value for name, value in sorted(labels.items()) if name not in ABOUT}
    identity = alert.fingerprint or "|".join(f"{name}={value}" for name, value in about.items())
    level = LEVELS.get(labels.get("severity", "").lower(), AlertLevel.WARNING)
    text = "\n".join(filter(None, (notes.get("description"), notes.get("runbook_url") or notes.get("runbook"))))
    return Report(
        key=f"{code}|prometheus|{identity}"[:500],
        level=level,
        code=code[:100],
        event=(labels.get("event") or _snake(code))[:48],
        title=notes.get("summary") or code,
        ts_ns=now_ns(),
        text=text,
        category=labels.get("category", "monitoring")[:50],
        source=SOURCE,
        exchange=labels.get("exchange", "")[:50],
        symbol=labels.get("symbol", "")[:50],
        details=about,
        resolves=alert.status == "resolved",
        one_off=level is AlertLevel.INFO,
    )


def _snake(name: str) -> str:
    """FeedStale becomes feed_stale: the spelling of events."""
    return "".join(f"_{mark.lower()}" if mark.isupper() and index else mark.lower() for index, mark in enumerate(name))
