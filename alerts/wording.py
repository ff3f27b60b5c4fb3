"""What people read: the words of messages, from reports, states and the lines of a digest."""

from __future__ import annotations

import msgspec

from alerts.alert_state import AlertState
from alerts.figures import SECOND_NS, clock, duration, shortened
from alerts.outbox import Message
from alerts.report import WEIGHT, Report
from common_models import AlertLevel

MAX_LINES = 20
LINE_CHARACTERS = 120
LATE_NS = 60 * SECOND_NS
"""What happened longer ago than this is told with its time."""
DIGEST = "digest"


class Line(msgspec.Struct, kw_only=True):
    """One line of the digest to come: all that was held back of one code. `weight` is as in Message."""

    code: str
    event: str
    level: AlertLevel
    weight: AlertLevel
    title: str
    silent: bool
    first_ns: int
    count: int = 0
    alert_id: str = ""


def message(told: Report | AlertState, state: AlertState | None, untold: int, now_ns: int, *, silent: bool) -> Message:
    """What people read of one report, or of a state that repeated."""
    times = f"{untold} times more" if untold else ""
    if untold and state is not None:
        times += f", {state.count} in all since {clock(state.first_ns)}"
    details = ", ".join(f"{name} {value}" for name, value in told.details.items() if name != "subject")
    happened_ns = told.ts_ns if isinstance(told, Report) else told.last_ns
    late = f"happened at {clock(happened_ns)}" if 0 < happened_ns < now_ns - LATE_NS else ""
    where = " ".join(filter(None, (told.code, told.source, told.exchange, told.symbol)))
    return Message(
        number=0,
        level=told.level,
        weight=told.level,
        event=told.event,
        title=told.title,
        text="\n".join(filter(None, (told.text, details, times, late, where))),
        silent=silent,
        key=told.key,
        alert_id=state.alert_id if state else "",
        created_ns=now_ns,
        waiting=[],
    )


def resolution(state: AlertState, report: Report, now_ns: int, *, silent: bool) -> Message:
    """It is over; the level is INFO, the weight that of the alert, so that it goes where the alert went."""
    lasted = f"after {duration(now_ns - state.first_ns)}" + (f", told {state.count} times" if state.count > 1 else "")
    reason = report.title if report.title != state.title else ""
    return Message(
        number=0,
        level=AlertLevel.INFO,
        weight=state.level,
        event=state.event,
        title=f"Over: {state.title}",
        text="\n".join(filter(None, (reason, lasted))),
        silent=silent,
        key=state.key,
        created_ns=now_ns,
        waiting=[],
    )


def digest(lines: list[Line], now_ns: int) -> Message:
    """One message of all that was held back; a single one is told as itself."""
    count = sum(line.count for line in lines)
    head = lines[0]
    shown = [_line(line) for line in lines[:MAX_LINES]]
    left = len(lines) - MAX_LINES
    return Message(
        number=0,
        level=max((line.level for line in lines), key=WEIGHT.__getitem__),
        weight=max((line.weight for line in lines), key=WEIGHT.__getitem__),
        event=head.event if len(lines) == 1 else DIGEST,
        title=head.title if count == 1 else f"{count} more: {shown[0]}" if len(lines) == 1 else f"{count} more",
        text="" if len(lines) == 1 else "\n".join([*shown, *([f"... and {left} other kinds"] if left > 0 else [])]),
        silent=all(line.silent for line in lines),
        key=DIGEST,
        alert_id=head.alert_id if count == 1 else "",
        created_ns=now_ns,
        waiting=[],
    )


def _line(line: Line) -> str:
    text = shortened(line.title, LINE_CHARACTERS)
    return f"{line.count} x {line.code}: {text}" if line.count > 1 else text


def escalation(due: list[AlertState], now_ns: int) -> Message:
    """Nobody acknowledged these: once more, with a sound, everywhere."""
    worst = max(due, key=lambda state: (WEIGHT[state.level], -state.first_ns))
    age = duration(now_ns - worst.first_ns)
    if len(due) == 1:
        title, text = f"Still open after {age}: {worst.title}", worst.text
    else:
        title = f"{len(due)} alerts are still open and not acknowledged"
        due = sorted(due, key=lambda state: -WEIGHT[state.level])[:MAX_LINES]
        text = "\n".join(f"{state.level.upper()} {shortened(state.title, LINE_CHARACTERS)} [{state.alert_id}]" for state in due)
    return Message(
        number=0,
        level=worst.level,
        weight=worst.level,
        event=worst.event,
        title=title,
        text=text,
        key=worst.key,
        alert_id=worst.alert_id if len(due) == 1 else "",
        created_ns=now_ns,
        waiting=[],
    )
