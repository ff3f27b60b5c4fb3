"""What a command answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from alerts.telegram.commands import Call
from alerts.telegram.markup import Line


@dataclass(frozen=True, slots=True)
class Answer:
    """Lines to read, and a PNG when there is one; its caption is the plain text of the lines."""

    lines: list[Line]
    picture: bytes = b""


Reader = Callable[[Call], Awaitable[Answer]]
"""Answers one command that only reads."""
