"""How a person types `tradebot` here: it is in a virtual environment that is on nobody's PATH, and may serve another home."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from runtime.settings import Settings


def own_command(settings: Settings) -> str:
    """`tradebot` when the shell finds it, else its path as short as it is; with --home when it is not the usual one."""
    program = own_program("tradebot")
    usual = Path.cwd() / Settings.model_fields["home"].default
    return program if settings.home == usual else f"{program} --home {shlex.quote(str(short_path(settings.home)))}"


def own_program(name: str) -> str:
    """A program of this virtual environment as one would type it here."""
    path = Path(sys.executable).parent / name
    found = shutil.which(name)
    return name if found is not None and Path(found).samefile(path) else shlex.quote(str(short_path(path)))


def short_path(path: Path) -> Path:
    """The path from here, when it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
