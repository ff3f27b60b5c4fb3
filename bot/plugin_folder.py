"""The folder that strategy files are dropped into: which are there, which are another now, and which are gone.

Looked at by the clock rather than by the kernel's notices: those miss network and container mounts, and a file that is still
being copied has to be looked at twice in any case.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SETTLED_S = 1.0
"""A file last written so long ago is complete; a younger one has to look the same twice."""

MAX_FILES = 500
MAX_DEPTH = 8


class Seen(NamedTuple):
    """What tells one state of a file from another."""

    size: int
    modified_ns: int
    inode: int
    kind: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Paths relative to the folder, in order: complete files that are new or another, and files that are gone."""

    present: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


class PluginFolder:
    """Every `.py` file below `directory`; names that begin with an underscore or a dot, or are no text, are passed over."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._known: dict[str, Seen] = {}
        self._young: dict[str, Seen] = {}
        self._missing: set[str] = set()
        self.trouble = ""  # why the folder cannot be read

    def look(self) -> Changes:
        """What has changed since the last look. A file is gone when two looks in a row do not find it: editors replace files.

        While the folder itself cannot be read, nothing has: a mount that went away must not close positions.
        """
        now_ns = time.time_ns()
        try:
            found = dict(self._scan())
        except OSError as error:
            self.trouble = f"{self.directory}: {error.strerror}"
            return Changes()
        self.trouble = ""
        present: list[str] = []
        young: dict[str, Seen] = {}
        for path, seen in found.items():
            if self._known.get(path) == seen:
                continue
            if self._young.get(path) == seen or now_ns - seen.modified_ns > SETTLED_S * 1e9:
                self._known[path] = seen
                present.append(path)
            else:
                young[path] = seen
        missing = self._known.keys() - found.keys()
        gone = missing & self._missing
        for path in gone:
            del self._known[path]
        self._young, self._missing = young, missing - gone
        return Changes(tuple(sorted(present)), tuple(sorted(gone)))

    def forget(self, path: str) -> None:
        """Tell of this file again with the next look, as if it were new."""
        self._known.pop(path, None)

    def _scan(self) -> Iterator[tuple[str, Seen]]:
        """At most MAX_FILES files; folders behind symbolic links are not entered."""
        folders: list[tuple[Path, int]] = [(self.directory, 0)]
        count = 0
        while folders:
            folder, depth = folders.pop()
            for entry in _entries(folder, must_be=depth == 0):
                if entry.name.startswith(("_", ".")) or not entry.name.isprintable():
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if depth < MAX_DEPTH:
                            folders.append((Path(entry.path), depth + 1))
                    elif entry.name.endswith(".py") and count < MAX_FILES:
                        count += 1
                        yield Path(entry.path).relative_to(self.directory).as_posix(), _seen(entry)
                except OSError:
                    continue  # it went while we looked, or may not be looked at: that is no trouble of the others


def _entries(folder: Path, *, must_be: bool) -> list[os.DirEntry[str]]:
    """What is in a folder; raises OSError for one that must be there and cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        if must_be:
            raise
        return []


def _seen(entry: os.DirEntry[str]) -> Seen:
    """Follows a symbolic link, so that a change behind it is noticed; one that leads nowhere is what it is itself."""
    try:
        status = entry.stat()
    except OSError:
        status = entry.stat(follow_symlinks=False)
    return Seen(status.st_size, status.st_mtime_ns, status.st_ino, stat.S_IFMT(status.st_mode))
