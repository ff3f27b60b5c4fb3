"""Which troubles are open: they begin, repeat, are acknowledged and end. The truth about alert states, durable in `tables`."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from alerts.alert_state import AlertPhase, AlertState
from alerts.durable_tables import DurableTables
from alerts.interfaces import NoSuchAlert
from alerts.report import WEIGHT, Report, ends
from common_models import AlertLevel

ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""For ids that people type on a phone: no 0 and o, no 1, i and l."""
ID_LENGTH = 4
MAX_KNOWN = 5_000
FORGET_AFTER_NS = 3_600 * 1_000_000_000
"""Resolved alerts are known here for so long, and in PostgreSQL afterwards."""
WARNING_ENDS_AFTER_NS = 24 * 3_600 * 1_000_000_000
ACKNOWLEDGED_ENDS_AFTER_NS = 7 * WARNING_ENDS_AFTER_NS
MAX_DOUBLINGS = 4
NEVER = 0
ESCALATING = (AlertLevel.ERROR, AlertLevel.CRITICAL)


class AlertBook:
    """Alerts of level WARNING and above. `unsaved` are the ids that PostgreSQL does not have as they are now."""

    def __init__(self, tables: DurableTables, escalate_after_s: float) -> None:
        self._escalate_after_ns = int(escalate_after_s * 1e9)
        self._states = tables.table("states", AlertState)
        self._by_key: dict[str, AlertState] = {}
        self.unsaved: dict[str, None] = {}

    def start(self) -> None:
        """Take up what was known at the last end."""
        for state in self._states.rows.values():
            self.unsaved[state.alert_id] = None
            if state.phase is not AlertPhase.RESOLVED:
                self._by_key[state.key] = state

    @property
    def states(self) -> Mapping[str, AlertState]:
        """Every alert that is known here, by id."""
        return self._states.rows

    def active(self, limit: int = 50) -> list[AlertState]:
        """Open and acknowledged ones: the worst level first, then the newest."""
        return sorted(self._by_key.values(), key=lambda state: (-WEIGHT[state.level], -state.last_ns))[:limit]

    def active_of(self, key: str) -> AlertState | None:
        """The open or acknowledged alert of a trouble."""
        return self._by_key.get(key)

    def note(self, report: Report, now_ns: int, *, escalates: bool) -> AlertState:
        """A trouble was told: a new state, or one time more of an old one."""
        state = self._by_key.get(report.key)
        if state is None:
            state = self._new(report, now_ns)
        else:
            state.count += 1
            state.last_ns = now_ns
            state.title, state.text, state.details = report.title, report.text, dict(report.details)
            if WEIGHT[report.level] > WEIGHT[state.level]:
                state.level, state.phase = report.level, AlertPhase.OPEN
        if escalates and state.phase is AlertPhase.OPEN and not state.escalate_ns and state.level in ESCALATING:
            state.escalate_ns = now_ns + self._escalate_after_ns
        self._put(state)
        return state

    def resolve_all(self, key: str, by: str, now_ns: int) -> list[AlertState]:
        """What is told under `key` is over; the states that this ended."""
        found = [state for state in self._by_key.values() if ends(key, state.key)]
        for state in found:
            self._change(state, AlertPhase.RESOLVED, by, now_ns)
        return found

    def acknowledge(self, alert_id: str, by: str, now_ns: int) -> AlertState:
        """Raises NoSuchAlert; one that is acknowledged or resolved stays as it is."""
        state = self._find(alert_id)
        if state.phase is AlertPhase.OPEN:
            self._change(state, AlertPhase.ACKNOWLEDGED, by, now_ns)
        return state

    def resolve(self, alert_id: str, by: str, now_ns: int) -> AlertState:
        """Raises NoSuchAlert; one that is resolved stays as it is."""
        state = self._find(alert_id)
        if state.phase is not AlertPhase.RESOLVED:
            self._change(state, AlertPhase.RESOLVED, by, now_ns)
        return state

    def escalating(self, now_ns: int) -> list[AlertState]:
        """Open alerts whose time to be said again has come; the next time is twice as long away, up to 16 times."""
        due = [state for state in self._by_key.values() if NEVER < state.escalate_ns <= now_ns]
        for state in due:
            state.escalations += 1
            state.escalate_ns = now_ns + self._escalate_after_ns * 2 ** min(state.escalations, MAX_DOUBLINGS)
            self._put(state)
        return due

    def tidy(self, now_ns: int) -> None:
        """End what nobody told again for long, and forget what has ended."""
        for state in list(self._by_key.values()):
            quiet_ns = now_ns - max(state.last_ns, state.changed_ns)
            old_warning = state.level is AlertLevel.WARNING and quiet_ns > WARNING_ENDS_AFTER_NS
            if old_warning or (state.phase is AlertPhase.ACKNOWLEDGED and quiet_ns > ACKNOWLEDGED_ENDS_AFTER_NS):
                self._change(state, AlertPhase.RESOLVED, "not told again", now_ns)
        for state in list(self._states.rows.values()):
            ended = state.phase is AlertPhase.RESOLVED and state.alert_id not in self.unsaved
            if ended and now_ns - state.changed_ns > FORGET_AFTER_NS:
                self._states.drop(state.alert_id)

    def _make_room(self) -> None:
        """Too many are known: the resolved go before the open, the mild before the bad, the old before the new."""
        order = sorted(
            self._states.rows.values(),
            key=lambda state: (state.phase is not AlertPhase.RESOLVED, WEIGHT[state.level], state.last_ns),
        )
        for state in order[: len(order) - MAX_KNOWN * 9 // 10]:
            self.unsaved.pop(state.alert_id, None)
            self._by_key.pop(state.key, None)
            self._states.drop(state.alert_id)

    def _new(self, report: Report, now_ns: int) -> AlertState:
        if len(self._states.rows) >= MAX_KNOWN:
            self._make_room()
        return AlertState(
            alert_id=self._new_id(),
            key=report.key,
            level=report.level,
            category=report.category,
            source=report.source,
            code=report.code,
            event=report.event,
            title=report.title,
            text=report.text,
            exchange=report.exchange,
            symbol=report.symbol,
            details=dict(report.details),
            first_ns=now_ns,
            last_ns=now_ns,
        )

    def _new_id(self) -> str:
        while True:
            alert_id = "".join(secrets.choice(ALPHABET) for _ in range(ID_LENGTH))
            if alert_id not in self._states.rows:
                return alert_id

    def _find(self, alert_id: str) -> AlertState:
        state = self._states.get(alert_id.strip().lower())
        if state is None:
            raise NoSuchAlert(f"no alert {alert_id[:20]!r} is known; the list of alerts shows the ids")
        return state

    def _change(self, state: AlertState, phase: AlertPhase, by: str, now_ns: int) -> None:
        state.phase, state.changed_by, state.changed_ns, state.escalate_ns = phase, by, now_ns, NEVER
        if phase is AlertPhase.RESOLVED:
            self._by_key.pop(state.key, None)
        self._put(state)

    def _put(self, state: AlertState) -> None:
        if state.phase is not AlertPhase.RESOLVED:
            self._by_key[state.key] = state
        self._states.put(state.alert_id, state)
        self.unsaved[state.alert_id] = None
