"""What a source of alerts has to say, before it is decided whether, when and how people hear of it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from common_models import Alert, AlertLevel
from runtime.logs import redacted

Switch = Literal["on", "silent", "off"]

SUBJECTS = ("plugin", "client_order_id", "command_id", "account", "subject")
"""Details of an `Alert` that name what it is about, beside its exchange and symbol: two plugins in trouble are two troubles."""

LEVELS = tuple(AlertLevel)
WEIGHT = {level: weight for weight, level in enumerate(LEVELS)}
MAX_TITLE = 200
MAX_TEXT = 3000
MAX_DETAILS, MAX_DETAIL = 30, 200
NAMES = ("code", "event", "category", "source", "exchange", "symbol")
MAX_NAME, MAX_KEY = 100, 500
MAX_RAW = 10_000


@dataclass(frozen=True, slots=True)
class Report:
    """Something happened, or (`resolves`) what was told under this `key` is over.

    `event` is the name in `alerts.notify`, `notify` what applies when that does not mention it. `cooldown_s` replaces `dedupe_s`.
    `one_off` says that nothing can be done about it any more: it is told and never open.
    """

    key: str
    level: AlertLevel
    code: str
    event: str
    title: str
    ts_ns: int
    text: str = ""
    category: str = ""
    source: str = ""
    exchange: str = ""
    symbol: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    resolves: bool = False
    one_off: bool = False
    notify: Switch = "on"
    cooldown_s: float | None = None


def key_of(alert: Alert) -> str:
    """What says that two alerts tell of the same trouble: code, exchange, symbol, and what its details are about.

    A CRITICAL one whose details name nothing is told apart by its words without their digits: never hidden behind another.
    """
    subjects = [f"{name}={alert.numbers[name]}" for name in SUBJECTS if name in alert.numbers]
    if not subjects and alert.level is AlertLevel.CRITICAL and not alert.resolves:
        words = "".join(mark for mark in alert.text if not mark.isdecimal())
        subjects = [f"words={zlib.crc32(words.encode(errors='replace')):08x}"]
    return "|".join((alert.code, alert.exchange, alert.symbol, *subjects))


def cleaned(report: Report) -> Report:
    """The report as it may be shown: without passwords, tokens and control characters, whoever put them into it."""
    names: dict[str, Any] = {name: _shown(getattr(report, name))[:MAX_NAME] for name in NAMES}
    return replace(
        report,
        **names,
        key=_shown(report.key)[:MAX_KEY],
        title=_shown(report.title).replace("\n", " ")[:MAX_TITLE],
        text=_shown(report.text)[:MAX_TEXT],
        details={name[:50]: _shown(value)[:MAX_DETAIL] for name, value in list(report.details.items())[:MAX_DETAILS]},
    )


def _shown(text: str) -> str:
    return "".join(mark for mark in redacted(text[:MAX_RAW]) if mark.isprintable() or mark == "\n")


def ends(resolving: str, key: str) -> bool:
    """Whether what is over under the key `resolving` is the trouble of `key`: the same, or one of those that it takes together."""
    return key == resolving or key.startswith(f"{resolving}|")


def report_of(alert: Alert) -> Report:
    """An alert of another process as it is; a rule of kind `alert` may change how it is told."""
    title, _, rest = alert.text.strip().partition("\n")
    return Report(
        key=key_of(alert),
        level=alert.level,
        code=alert.code,
        event=alert.code.lower(),
        title=title or alert.code,
        text="\n".join(filter(None, (title[MAX_TITLE:], rest))),
        ts_ns=alert.ts_event_ns,
        category=alert.category,
        source=alert.source,
        exchange=alert.exchange,
        symbol=alert.symbol,
        details=alert.numbers,
        resolves=alert.resolves,
        one_off=alert.level is AlertLevel.INFO,
    )
