"""What the bot remembers of its plugins over restarts: the words of operators, who was quarantined, and every version that ran."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from common_models import Control, ControlAction, PluginMode
from runtime.endpoints import write_private

MAX_QUARANTINED = 1000

MODES = {
    ControlAction.ENABLE: None,
    ControlAction.DISABLE: PluginMode.OFF,
    ControlAction.SHADOW: PluginMode.SHADOW,
    ControlAction.PROMOTE: PluginMode.LIVE,
}
"""What an operator's word makes of a plugin; None is what the configuration says."""


class Word(msgspec.Struct, frozen=True):
    """What an operator said of a plugin last, and when (UTC nanoseconds)."""

    mode: PluginMode
    actor: str
    reason: str
    at_ns: int


class Known(msgspec.Struct, frozen=True):
    """A plugin that ran: what its file said shall become of its positions once it is gone."""

    path: str
    version: str
    when_gone: str


class Memory(msgspec.Struct):
    """The content of the file."""

    words: dict[str, Word] = {}
    quarantined: dict[str, str] = {}  # version: reason
    known: dict[str, Known] = {}
    troubles: dict[str, list[tuple[str, str]]] = {}  # path: (alert code, plugin)
    heard_ns: int = 0


class RegistryError(Exception):
    """The file cannot be read; the text says where and what to do."""


class PluginRegistry:
    """`<directory>/plugins.json` and the versions in `versions`. Everything is written before it takes effect."""

    def __init__(self, directory: Path, versions: Path) -> None:
        self._path = directory / "plugins.json"
        self._versions = versions
        self._memory = Memory()

    def open(self) -> None:
        """Read what is there; raises RegistryError for a file that is not ours."""
        try:
            self._memory = msgspec.json.decode(self._path.read_bytes(), type=Memory)
        except FileNotFoundError:
            return
        except msgspec.MsgspecError as error:
            text = f"{self._path}: {error}; move the file away to start without what operators said of plugins"
            raise RegistryError(text) from error

    # -- what operators said

    def hear(self, control: Control) -> bool:
        """Take in a word about a plugin; False when it was heard before, as the control stream is read from its start each time."""
        if control.target is None or control.action not in MODES or control.created_at_ns <= self._memory.heard_ns:
            return False
        self._memory.heard_ns = control.created_at_ns
        mode = MODES[control.action]
        if mode is None:
            self._memory.words.pop(control.target, None)
        else:
            self._memory.words[control.target] = Word(mode, control.actor, control.reason, control.created_at_ns)
        self._write()
        return True

    def word(self, name: str) -> Word | None:
        """The operator's word that holds against the configuration; None when there is none."""
        return self._memory.words.get(name)

    # -- who misbehaved

    def quarantine(self, version: str, reason: str) -> None:
        """Never run this version again, until its file is another or an operator enables it."""
        quarantined = self._memory.quarantined
        quarantined[version] = reason
        if len(quarantined) > MAX_QUARANTINED:
            del quarantined[next(iter(quarantined))]
        self._write()

    def release(self, version: str) -> None:
        """Lift a quarantine."""
        if self._memory.quarantined.pop(version, None) is not None:
            self._write()

    def quarantined(self, version: str) -> str:
        """Why a version may not run; empty when it may."""
        return self._memory.quarantined.get(version, "")

    # -- who was there

    def note(self, name: str, known: Known) -> None:
        """A plugin runs: remember what shall become of its positions when its file is not there at some later start."""
        if self._memory.known.get(name) != known:
            self._memory.known[name] = known
            self._write()

    def forget(self, name: str) -> None:
        """What was to be done for a plugin that is gone is done."""
        if self._memory.known.pop(name, None) is not None:
            self._write()

    def known_path(self, name: str) -> str:
        """The file that had this name last; empty when there was none."""
        known = self._memory.known.get(name)
        return known.path if known else ""

    def when_gone(self, name: str) -> str:
        """What a plugin said shall become of its positions; `keep` when it never ran."""
        known = self._memory.known.get(name)
        return known.when_gone if known else "keep"

    def name_of(self, path: str) -> str:
        """The plugin that ran last from this file; empty when none did."""
        return next((name for name, known in self._memory.known.items() if known.path == path), "")

    def version_of(self, path: str) -> str:
        """The version of this file that ran last; empty when none did."""
        return next((known.version for known in self._memory.known.values() if known.path == path), "")

    def known(self) -> Iterator[tuple[str, Known]]:
        """The plugins that ran, in this life or an earlier one."""
        return iter(list(self._memory.known.items()))

    # -- what people were told

    def note_trouble(self, path: str, code: str, name: str) -> None:
        """An alert of this code about the file's plugin is open."""
        troubles = self._memory.troubles.setdefault(path, [])
        if (code, name) not in troubles:
            troubles.append((code, name))
            self._write()

    def end_troubles(self, path: str) -> list[tuple[str, str]]:
        """The alerts, as code and plugin, that are over now."""
        troubles = self._memory.troubles.pop(path, [])
        if troubles:
            self._write()
        return troubles

    # -- every version

    def keep(self, code: bytes) -> None:
        """Keep a version of a file under its full SHA-256; one that is there already is not written again."""
        path = self._versions / f"{hashlib.sha256(code).hexdigest()}.py"
        if path.exists():
            return
        self._versions.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(code)
        fresh.replace(path)

    def read(self, version: str) -> bytes:
        """The file of a version that was kept, by the beginning of its hash; raises FileNotFoundError."""
        for path in self._versions.glob(f"{version}*.py"):
            return path.read_bytes()
        raise FileNotFoundError(f"no version {version} in {self._versions}")

    def _write(self) -> None:
        write_private(self._path, msgspec.json.encode(self._memory).decode())
