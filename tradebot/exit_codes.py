"""The exit codes of every `tradebot` command (DESIGN.md §7)."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    ERROR = 1
    NOT_FOUND = 2  # or bad usage
    NOT_RUNNING = 3
    CONFIG = 4
    TIMEOUT = 5


class CommandError(Exception):
    """An expected failure of a command: one line for people, and the exit code for programs."""

    def __init__(self, text: str, code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(text)
        self.code = code
