"""The files of home directories that a backup holds, and the order in which they are taken.

Files are append-only or replaced whole, so one that is read from a single open file is a state that it really had; what a crash
would leave at its end, the reader of each cuts off.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from tradebot.backup_archive import BackupError
from tradebot.process_lock import locks_in

Homes = Mapping[str, Path]
"""Home directories by name: one for a stack on this machine, one per service where each has its own volume."""

ONLY = "home"
"""The name of the home when there is just one."""

IGNORED = ("lock", ".*", "*.lock", "*.new", "*.fresh")
"""Locks, and files that are about to replace others."""


def before_database(mode: str) -> tuple[str, ...]:
    """What flows into the database: taken before it, so that nothing falls between the two."""
    return (f"spool/{mode}",)


def after_database(mode: str) -> tuple[str, ...]:
    """What the database is made from, the journal last: whatever another part knows of an order, the journal knows too."""
    decided = (f"bot/{mode}", "bot/plugin_versions", f"alerts/{mode}", f"traces/{mode}.json")
    return (*decided, f"journal/{mode}", f"lease/{mode}-*.epoch", "stop/state.json", "installation")


def homes_in(folder: Path) -> dict[str, Path]:
    """Every home directory in a folder; raises BackupError when there is none."""
    found = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")}
    if not found:
        raise BackupError(f"{folder} holds no home directories: mount the volume of each service there, under its name")
    return found


def copy_parts(homes: Homes, patterns: Sequence[str], target: Path) -> None:
    """Copy what matches to `target/NAME/...`."""
    for pattern in patterns:
        for name, home in homes.items():
            for source in _files(home, pattern):
                place = target / name / source.relative_to(home)
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # a spool segment that is done, a file that was rotated away
                    shutil.copyfile(source, place)


def occupied(homes: Homes, mode: str) -> list[Path]:
    """What is there already of a mode's state: a restore would write over it."""
    patterns = (*before_database(mode), *after_database(mode))
    return [path for home in homes.values() for pattern in patterns for path in sorted(home.glob(pattern)) if _holds_files(path)]


def move_aside(homes: Homes, mode: str, name: str) -> None:
    """Put a mode's state into the folder `name` of its home, so that nothing of it is lost."""
    for path in occupied(homes, mode):
        home = next(home for home in homes.values() if path.is_relative_to(home))
        place = home / name / path.relative_to(home)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.rename(place)


def places(source: Path, homes: Homes, mode: str) -> dict[Path, Path]:
    """Where each file of `source/NAME/...` belongs; raises BackupError for one that no backup of this mode has."""
    patterns = (*before_database(mode), *after_database(mode))
    found = {}
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        name, *parts = path.relative_to(source).parts
        place = Path(*parts)
        if name not in homes or not any(_covers(pattern, place) for pattern in patterns):
            raise BackupError(f"the backup holds {name}/{place}, for which there is no place here")
        found[path] = homes[name] / place
    return found


def put_back(moves: Mapping[Path, Path], *, last: str) -> None:
    """Move files to their places; those named `last` when all others are on the disk."""
    for source, target in sorted(moves.items(), key=lambda move: move[1].name == last):
        _move(source, target)


def running(homes: Homes) -> list[str]:
    """The names of processes that work on these homes."""
    found = []
    for home in homes.values():
        found += [lock.name for lock in locks_in(home / "run") if lock.held]
        found += [path.stem for path in sorted((home / "run").glob("*.pid")) if _is_locked(path)]
    return list(dict.fromkeys(found))


def _files(home: Path, pattern: str) -> Iterator[Path]:
    for found in sorted(home.glob(pattern)):
        for path in sorted(found.rglob("*")) if found.is_dir() else [found]:
            if path.is_file() and not path.is_symlink() and not any(fnmatchcase(path.name, name) for name in IGNORED):
                yield path


def _holds_files(path: Path) -> bool:
    return path.is_file() or any(entry.is_file() for entry in path.rglob("*"))


def _covers(pattern: str, place: Path) -> bool:
    return any(fnmatchcase(str(path), pattern) for path in (place, *place.parents))


def _move(source: Path, target: Path) -> None:
    """Across file systems too, on the disk before it is in place."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    with source.open("rb") as data, open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        shutil.copyfileobj(data, file)
        file.flush()
        os.fsync(file.fileno())
    if os.geteuid() == 0:  # a volume belongs to the user of its container
        owner = target.parent.stat()
        os.chown(draft, owner.st_uid, owner.st_gid)
    draft.replace(target)
    source.unlink()


def _is_locked(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
