"""Whether, when and how loudly people hear of a report. CRITICAL is never suppressed by anything.

The first of an event is told at once. INFO and WARNING that follow within `digest_s` are joined in a digest, as are ERRORs beyond
half of what a minute may carry. Repeats of the same trouble within `dedupe_s` only count, and the count is told.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from alerts import wording
from alerts.alert_book import AlertBook
from alerts.durable_tables import DurableTables
from alerts.outbox import Message, Outbox
from alerts.report import WEIGHT, Report, Switch, cleaned
from alerts.wording import DIGEST, Line
from common_models import AlertLevel
from runtime.service import ServiceError
from runtime.settings import AlertsSettings, QuietHours

CRITICAL_DEDUPE_S = 180.0
"""Repeats of a CRITICAL trouble are told at least this often."""
MAX_TRACKED = 20_000
TIDY_EVERY_NS = 60 * 1_000_000_000


class Track(msgspec.Struct, kw_only=True):
    """When a trouble was told last, and how often it came since."""

    told_ns: int
    until_ns: int  # repeats before this only count
    level: AlertLevel
    untold: int = 0


class Router:
    """Turns reports into states and messages. All that it decides is durable with the next `tables.commit()`."""

    def __init__(self, tables: DurableTables, book: AlertBook, outbox: Outbox, settings: AlertsSettings) -> None:
        self.received: Counter[str] = Counter()  # by level
        self.suppressed: Counter[str] = Counter()  # by reason
        self._book = book
        self._outbox = outbox
        self._settings = settings
        self._quiet = _quiet_hours(settings.quiet_hours)
        self._tracks = tables.table("tracks", Track)
        self._lines = tables.table("digest", Line)
        self._told_ns: dict[str, int] = {}  # the last message at once, by event
        self._errors_ns: deque[int] = deque()
        self._errors_a_minute = max(1, settings.telegram.messages_per_minute // 2)
        self._tidied_ns = 0

    def take(self, report: Report, now_ns: int) -> None:
        """Decide about one report."""
        report = cleaned(report)
        self.received[report.level] += 1
        if report.resolves:
            self._take_resolution(report, now_ns)
            return
        critical = report.level is AlertLevel.CRITICAL
        switch: Switch = self._settings.notify.get(report.event, report.notify)
        state = None
        if not report.one_off:
            state = self._book.note(report, now_ns, escalates=critical or switch != "off")
        if switch == "off" and not critical:
            self.suppressed["off"] += 1
            return
        track = self._tracks.get(report.key)
        if track is not None and now_ns < track.until_ns and WEIGHT[report.level] <= WEIGHT[track.level]:
            track.untold += 1
            self._tracks.put(report.key, track)
            self.suppressed["duplicate"] += 1
            return
        untold = track.untold if track else 0
        until_ns = now_ns + int(self._dedupe_s(report) * 1e9)
        self._tracks.put(report.key, Track(told_ns=now_ns, until_ns=until_ns, level=report.level))
        message = wording.message(report, state, untold, now_ns, silent=switch == "silent" and not critical)
        self._tell(message, report.code, now_ns)

    def tick(self, now_ns: int) -> None:
        """What time brings: repeats that were held back, the digest, escalations. To be called about once a second."""
        self._tell_repeats(now_ns)
        if self._lines.rows and now_ns - min(line.first_ns for line in self._lines.rows.values()) >= self._digest_ns:
            self._send_digest(now_ns)
        due = self._book.escalating(now_ns)
        if due:
            self._outbox.put(wording.escalation(due, now_ns), everywhere=True)
        if now_ns - self._tidied_ns > TIDY_EVERY_NS:
            self._tidied_ns = now_ns
            self._tidy(now_ns)

    @property
    def digest_waiting(self) -> int:
        """Reports that wait for the next digest."""
        return sum(line.count for line in self._lines.rows.values())

    @property
    def _digest_ns(self) -> int:
        return int(self._settings.digest_s * 1e9)

    def _dedupe_s(self, report: Report) -> float:
        wait_s = self._settings.dedupe_s if report.cooldown_s is None else report.cooldown_s
        return min(wait_s, CRITICAL_DEDUPE_S) if report.level is AlertLevel.CRITICAL else wait_s

    def _take_resolution(self, report: Report, now_ns: int) -> None:
        """End what was told under the report's key, and say so to those who were told."""
        for state in self._book.resolve_all(report.key, report.source or "system", now_ns):
            self._tracks.drop(state.key)
            switch = self._settings.notify.get(state.event, report.notify)
            if switch == "off" and state.level is not AlertLevel.CRITICAL:
                self.suppressed["off"] += 1
                continue
            self._tell(wording.resolution(state, report, now_ns, silent=switch == "silent"), state.code, now_ns)

    def _tell(self, message: Message, code: str, now_ns: int) -> None:
        """At once, or with the next digest."""
        level, event = message.weight, message.event
        if level is AlertLevel.CRITICAL:
            at_once = True
        elif level is AlertLevel.ERROR:
            while self._errors_ns and now_ns - self._errors_ns[0] > 60 * 1_000_000_000:
                self._errors_ns.popleft()
            at_once = len(self._errors_ns) < self._errors_a_minute
            if at_once:
                self._errors_ns.append(now_ns)
        else:
            at_once = now_ns - self._told_ns.get(event, 0) >= self._digest_ns
            if at_once:
                self._told_ns[event] = now_ns
        if at_once:
            self._send(message, now_ns)
        else:
            self.suppressed[DIGEST] += 1
            self._hold(message, code, now_ns)

    def _hold(self, message: Message, code: str, now_ns: int) -> None:
        """Add it to the line of its code in the next digest."""
        name = f"{code}/{message.event}/{message.level}"
        line = self._lines.get(name)
        if line is None:
            line = Line(
                code=code,
                event=message.event,
                level=message.level,
                weight=message.weight,
                title=message.title,
                silent=message.silent,
                first_ns=now_ns,
            )
        line.count += 1
        line.title, line.alert_id = message.title, message.alert_id
        self._lines.put(name, line)

    def _send_digest(self, now_ns: int) -> None:
        lines = sorted(self._lines.rows.items(), key=lambda item: (-WEIGHT[item[1].weight], -item[1].count))
        for name, _ in lines:
            self._lines.drop(name)
        self._send(wording.digest([line for _, line in lines], now_ns), now_ns)

    def _send(self, message: Message, now_ns: int) -> None:
        if self._quiet(now_ns, message.weight):
            message.silent = True
        self._outbox.put(message)

    def _tell_repeats(self, now_ns: int) -> None:
        """Troubles that repeated after they were told: how often, when the time of silence is over."""
        for key, track in list(self._tracks.rows.items()):
            if now_ns < track.until_ns:
                continue
            self._tracks.drop(key)
            if not track.untold:
                continue
            state = self._book.active_of(key)
            if state is not None:
                wait_ns = track.until_ns - track.told_ns
                self._tracks.put(key, Track(told_ns=now_ns, until_ns=now_ns + wait_ns, level=state.level))
                silent = self._settings.notify.get(state.event) == "silent" and state.level is not AlertLevel.CRITICAL
                self._tell(wording.message(state, state, track.untold, now_ns, silent=silent), state.code, now_ns)

    def _tidy(self, now_ns: int) -> None:
        self._book.tidy(now_ns)
        for key in list(self._tracks.rows)[: max(0, len(self._tracks.rows) - MAX_TRACKED)]:
            self._tracks.drop(key)


def _quiet_hours(hours: QuietHours | None) -> Callable[[int, AlertLevel], bool]:
    """Whether a message of a level comes without a sound at a time; raises ServiceError for an unknown timezone."""
    if hours is None:
        return lambda _, __: False
    start, end = hours.start, hours.end
    least = WEIGHT[AlertLevel(hours.min_level)]
    try:
        zone = ZoneInfo(hours.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        raise ServiceError(f"alerts.quiet_hours.timezone: {hours.timezone!r} is not known here; one like Europe/Berlin") from None

    def quiet(now_ns: int, level: AlertLevel) -> bool:
        clock = datetime.fromtimestamp(now_ns // 1_000_000_000, zone).strftime("%H:%M")
        inside = start <= clock < end if start <= end else clock >= start or clock < end
        return inside and WEIGHT[level] < least

    return quiet
