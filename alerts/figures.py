"""Numbers, times and long texts as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

SECOND_NS = 1_000_000_000


def number(value: Decimal, digits: int | None = None) -> str:
    """Without needless zeros, with at most `digits` behind the point."""
    text = f"{value:f}" if digits is None else f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(ns: int) -> str:
    """An age: 45 s, 12 min, 3 h 20 min."""
    seconds = max(0, ns // SECOND_NS)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h {seconds % 3600 // 60} min"


def clock(ts_ns: int) -> str:
    """A time of the day in UTC: 14:03:59 UTC."""
    return datetime.fromtimestamp(ts_ns // SECOND_NS, UTC).strftime("%H:%M:%S UTC")


def shortened(text: str, most: int) -> str:
    """The text, or its beginning and dots: `most` characters at most."""
    return text if len(text) <= most else f"{text[: most - 4]} ..."
