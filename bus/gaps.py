"""Saying that data is missing."""

from __future__ import annotations

from bus.streams import exchange_of
from common_models import Gap
from runtime.clock import now_ns


def stream_gap(
    stream: str, reason: str, *, from_ns: int = 0, to_ns: int = 0, first: str = "", last: str = "", count: int | None = None
) -> Gap:
    """A gap in one stream, of all symbols. Times default to now; `first` and `last` are message or entry ids when known."""
    ts_ns = now_ns()
    return Gap(
        ts_pub_ns=ts_ns,
        exchange=exchange_of(stream),
        symbol="",
        stream=stream,
        reason=reason,
        from_ns=from_ns or to_ns or ts_ns,
        to_ns=to_ns or ts_ns,
        ts_recv_ns=ts_ns,
        first_missing=first,
        last_missing=last,
        count=count,
    )
