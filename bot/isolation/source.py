"""A plugin file as bytes, read once and carefully: what is hashed is what is executed."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_SOURCE_BYTES: Final = 1024 * 1024
VERSION_DIGITS: Final = 12


class PluginRefused(Exception):
    """A plugin file, its settings or its state cannot be used; the text says what to change."""


@dataclass(frozen=True, slots=True)
class PluginSource:
    """One version of a plugin file. `path` is shown to people, `version` begins the SHA-256 of `code`."""

    path: str
    code: bytes
    version: str


def read_source(path: Path, folder: Path) -> PluginSource:
    """Read a plain file of at most a megabyte that does not lie outside `folder`; its path in the source is relative to that.

    Raises PluginRefused, and FileNotFoundError when there is none.
    """
    real, root = (Path(os.path.realpath(place)) for place in (path, folder))  # Path.resolve() raises at a loop of links
    shown = str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
    if not real.is_relative_to(root):
        raise PluginRefused(f"{shown}: leads out of the plugin folder, to {real}; copy the file instead")
    try:
        # never waits, as opening a pipe that nobody writes to would; `real` has no link left that could be followed
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PluginRefused(f"{shown}: cannot be read: {error.strerror}") from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise PluginRefused(f"{shown}: is no plain file")
        if state.st_size > MAX_SOURCE_BYTES:
            raise PluginRefused(f"{shown}: has {state.st_size} bytes; a plugin has at most {MAX_SOURCE_BYTES}")
        with open(descriptor, "rb", closefd=False) as file:
            code = file.read(MAX_SOURCE_BYTES + 1)
    except OSError as error:
        raise PluginRefused(f"{shown}: cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    return source_of(shown, code)


def source_of(path: str, code: bytes) -> PluginSource:
    """The source in `code`; raises PluginRefused for what cannot be Python in UTF-8 of at most a megabyte."""
    if len(code) > MAX_SOURCE_BYTES:
        raise PluginRefused(f"{path}: is longer than {MAX_SOURCE_BYTES} bytes")
    if b"\0" in code:
        line = code[: code.index(b"\0")].count(b"\n") + 1
        raise PluginRefused(f"{path}:{line}: contains a NUL byte: this is no text file")
    try:
        code.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = code[: error.start].count(b"\n") + 1
        raise PluginRefused(f"{path}:{line}: is not UTF-8: {error.reason} (byte {code[error.start]:#04x})") from None
    return PluginSource(path, code, hashlib.sha256(code).hexdigest()[:VERSION_DIGITS])
