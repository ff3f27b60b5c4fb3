"""Trace and span ids that follow from our own message ids: whoever knows a message knows its place in the traces."""

from __future__ import annotations

import hashlib


def trace_id(correlation_id: str) -> int:
    """The 128-bit trace of everything that one frame caused; never 0, which means none."""
    return _number(b"trace", correlation_id, 16)


def span_id(message_id: str) -> int:
    """The 64-bit span of one message; never 0."""
    return _number(b"span", message_id, 8)


def trace_text(correlation_id: str) -> str:
    """The trace id as logs and trace viewers show it: 32 hex characters."""
    return f"{trace_id(correlation_id):032x}"


def _number(kind: bytes, text: str, size: int) -> int:
    digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=size, person=kind).digest()
    return int.from_bytes(digest) or 1
