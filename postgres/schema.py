"""What the code expects of the database: schema names, the version, and which tables lie in day partitions.

Kept apart from the migrations, so that the recorder and the bot can check the version without loading Alembic.
"""

from __future__ import annotations

import re

HEAD = "0003"
"""The migration that this code was written for: the newest file in `migrations/versions`."""

PARTITIONED = {
    "trades": "ts_event_ns",
    "tickers": "ts_recv_ns",
    "order_books": "ts_recv_ns",
    "day_stats": "ts_recv_ns",
    "signals": "ts_event_ns",
    "decisions": "ts_event_ns",
}
"""Tables in day partitions and the column (UTC nanoseconds) that decides the day. Retention applies to these."""

_SCHEMA_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


class SchemaError(Exception):
    """The database's tables are not those that this code needs; the text says which command helps."""


def schema_name(mode: str) -> str:
    """The schema of a mode, checked, since identifiers cannot be bound parameters; raises ValueError."""
    if not _SCHEMA_NAME.fullmatch(mode):
        raise ValueError(f"not a mode: {mode[:40]!r}; expected simulation, paper or live")
    return mode


def check_version(found: str | None, mode: str) -> None:
    """Compare the version stored in a schema with HEAD; raises SchemaError."""
    if found is None:
        raise SchemaError(f"schema {mode!r} has no tables yet; run `tradebot db migrate`")
    if found < HEAD:
        raise SchemaError(f"schema {mode!r} is at version {found}, this code needs {HEAD}; run `tradebot db migrate`")
    if found > HEAD:
        raise SchemaError(f"schema {mode!r} is at version {found}, newer than this code's {HEAD}; update tradebot")
