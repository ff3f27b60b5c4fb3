"""Numbers, times and durations for people."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal


def amount(number: Decimal | None) -> str:
    """Money or a quantity: more digits for small numbers, never an exponent."""
    if number is None:
        return "-"
    size = abs(number)
    digits = 2 if size >= 100 or not size else 4 if size >= 1 else 8
    text = f"{number:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits > 2 else text


def signed(number: Decimal) -> str:
    """A profit or loss, with its sign."""
    return ("+" if number > 0 else "") + amount(number)


def percent(part: Decimal, whole: Decimal) -> str:
    """`part` of `whole` with its sign, or - when there is no whole."""
    return f"{part / abs(whole) * 100:+.2f} %" if whole else "-"


def at(ts_ns: int) -> str:
    """A time of these last months, UTC to the minute."""
    return f"{datetime.fromtimestamp(ts_ns // 1_000_000_000, UTC):%d %b %H:%M}"


def exactly(ts_ns: int) -> str:
    """A time of these last months, UTC to the second."""
    return f"{at(ts_ns)}:{ts_ns // 1_000_000_000 % 60:02d}"


def clock(ts_ns: int) -> str:
    """A time of today, UTC to the second."""
    return f"{datetime.fromtimestamp(ts_ns // 1_000_000_000, UTC):%H:%M:%S}"


def lasting(seconds: float) -> str:
    """How long something took, in its two largest units."""
    rest = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
