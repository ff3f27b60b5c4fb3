"""What a plugin can hardly use of what it imports, and why: advice to its author. What it may do is up to the system (`limits`)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from bot.isolation.protocol import Import

MEANT_FOR_PLUGINS: Final = frozenset({"strategy", "pydantic", "pydantic_core", "numpy", "typing_extensions", "annotated_types"})
WITHOUT_USE: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("socket", "ssl", "http", "urllib", "ftplib", "smtplib", "socketserver", "select", "selectors"), "there is no network"
    ),
    **dict.fromkeys(("subprocess", "multiprocessing", "concurrent", "pty"), "processes cannot be started"),
    **dict.fromkeys(("threading", "_thread", "queue", "asyncio"), "threads cannot be started, and a callback must return at once"),
    **dict.fromkeys(("tempfile", "shutil", "sqlite3", "dbm", "shelve", "logging.handlers"), "files cannot be written"),
    **dict.fromkeys(("os", "pathlib", "io", "glob"), "files cannot be read or written"),
    **dict.fromkeys(
        ("ctypes", "cffi", "mmap", "gc", "signal", "resource", "importlib", "builtins"), "it reaches below Python's surface"
    ),
    **dict.fromkeys(("time", "datetime"), "the present time is not that of the events: take ts_recv_ns"),
    **dict.fromkeys(("random", "secrets", "uuid"), "the same events must give the same signals: seed it, or leave it"),
}
"""Modules of the standard library that a plugin can hardly use, and why."""


def doubt_about(one: Import) -> str:
    """What a person should know of an import; empty when there is nothing to say."""
    if not one.found:
        return f"imports {one.module}, which is not there"
    if one.module in WITHOUT_USE:
        return f"imports {one.module}: {WITHOUT_USE[one.module]}"
    if one.module not in MEANT_FOR_PLUGINS and one.module not in sys.stdlib_module_names:
        return f"imports {one.module}, which other installations may not have"
    return ""
