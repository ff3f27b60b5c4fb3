"""Time as the bus knows it: integer nanoseconds UTC. Outside the bus it is RFC 3339 text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
NS_PER_US = 1_000

EARLIEST_NS = 1_420_070_400 * NS_PER_S
"""2015-01-01: no venue that we speak to has older events, so anything older is a unit mistake."""
LATEST_NS = 4_102_444_800 * NS_PER_S
"""2100-01-01: anything newer is a unit mistake, milliseconds read as seconds and the like."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TimestampError(ValueError):
    """A time that is not in the unit that its field promises."""


def ms_to_ns(ms: int) -> int:
    """Nanoseconds of a venue's millisecond time; raises TimestampError outside 2015..2100 (wrong unit)."""
    ns = ms * NS_PER_MS
    if EARLIEST_NS <= ns < LATEST_NS:
        return ns
    raise TimestampError(f"not a millisecond time between 2015 and 2100: {ms}")


def datetime_to_ns(moment: datetime) -> int:
    """Exact nanoseconds of an aware datetime (its own resolution is a microsecond)."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * NS_PER_S + since.microseconds * NS_PER_US


def ns_to_rfc3339(ns: int) -> str:
    """`2026-11-21T12:00:00.123456789Z`, always nine digits so that texts sort as times do."""
    whole, part = divmod(ns, NS_PER_S)
    return f"{(_EPOCH + timedelta(seconds=whole)).strftime('%Y-%m-%dT%H:%M:%S')}.{part:09d}Z"


def rfc3339_to_ns(text: str) -> int:
    """Exact nanoseconds of RFC 3339 text with up to nine fraction digits; raises TimestampError."""
    head, point, tail = text.partition(".")
    fraction = ""
    if point:
        fraction = tail[: len(tail) - len(tail.lstrip("0123456789"))]
        head += tail[len(fraction) :]
    try:
        moment = datetime.fromisoformat(head)
    except ValueError as error:
        raise TimestampError(f"not an RFC 3339 time: {text[:40]!r}") from error
    if moment.tzinfo is None or len(fraction) > 9 or (point and not fraction):
        raise TimestampError(f"not an RFC 3339 time with an offset and at most nine fraction digits: {text[:40]!r}")
    return datetime_to_ns(moment) + int(fraction.ljust(9, "0") or 0)
