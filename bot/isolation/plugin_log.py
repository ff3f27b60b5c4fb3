"""What a plugin prints: taken from its pipe a little at a time, made harmless, and kept in a file of its own."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from bot.isolation.source import PluginSource
from runtime.clock import now_ns
from runtime.logs import redact

log = structlog.get_logger(__name__)

READ_BYTES: Final = 64 * 1024
"""Taken at a time; what a plugin prints beyond waits in the pipe, and the plugin with it."""
LINE_BYTES: Final = 1000
"""A line is cut to so much; more without an end of line counts as further lines."""
BURST_S: Final = 3
"""So many seconds' worth of lines may come at once."""

_PLACE: Final = re.compile(r'^  File "(?P<path>.+)", line (?P<line>\d+) in (?P<function>\S+)$')


class PluginLog:
    """The log of one worker. `name` is the plugin's, which is known once it has started; until then lines wait."""

    def __init__(self, pipe: int, directory: Path | None, source: PluginSource, lines_per_s: int, max_bytes: int) -> None:
        self._pipe = pipe
        self._directory = directory
        self._source = source
        self._per_s = lines_per_s
        self._max_bytes = max_bytes
        self._credit = float(BURST_S * lines_per_s)
        self._rest = b""
        self._waiting: list[str] = []
        self._name = ""
        self.place = ""
        """Where in its file the plugin was when it was last asked, as `file.py:12 in on_ticker`."""

    def named(self, name: str) -> None:
        """Write to the file of this plugin from now on."""
        self._name = name
        self._write([])

    def read(self, elapsed_s: float) -> str:
        """Take in what is there and return why the plugin must be ended for it; empty when it need not."""
        self._credit = min(self._credit + elapsed_s * self._per_s, BURST_S * self._per_s)
        try:
            data = os.read(self._pipe, READ_BYTES)
        except OSError:  # nothing there
            return ""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > LINE_BYTES:
            lines.append(self._rest[:LINE_BYTES])
            self._rest = self._rest[LINE_BYTES:]
        self._credit -= sum(1 + len(line) // LINE_BYTES for line in lines)
        if lines:
            self._write([line[:LINE_BYTES].decode("utf-8", "backslashreplace") for line in lines])
        return f"log flood: more than {self._per_s} lines a second" if self._credit < 0 else ""

    def close(self, name: str) -> None:
        """Take in what the ended plugin still said, and let go of the pipe; `name` is for one whose own never became known."""
        self._name = self._name or name
        self.read(0)
        if self._rest:
            self._write([self._rest.decode("utf-8", "backslashreplace")])
        os.close(self._pipe)

    def _write(self, lines: list[str]) -> None:
        for line in lines:
            found = _PLACE.match(line)
            if found and found["path"] == self._source.path and not self.place:
                self.place = f"{found['path']}:{found['line']} in {found['function']}"
        stamp = datetime.fromtimestamp(now_ns() / 1e9, UTC).isoformat(timespec="milliseconds")
        self._waiting += [f"{stamp} {self._source.version} {redact(None, '', {'line': line})['line']}\n" for line in lines]
        if not self._name or self._directory is None:
            del self._waiting[:-1000]
            return
        if self._waiting:
            lines, self._waiting = self._waiting, []
            _append(self._directory / f"{self._name}.log", "".join(lines), self._max_bytes)


def _append(path: Path, text: str, max_bytes: int) -> None:
    """Add to the file, which becomes `NAME.1` when it is half as large as both may be; a full disk costs the lines."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            size = file.tell()
        if size > max_bytes // 2:
            path.replace(path.with_name(f"{path.name}.1"))
    except OSError as error:
        log.warning("plugin.log_lost", path=str(path), reason=str(error))
