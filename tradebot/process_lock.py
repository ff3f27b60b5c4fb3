"""Who is alive in a home directory: one lock file per process, held by the kernel for exactly as long as it lives.

A process inherits the locked file at its birth, so neither a killed supervisor nor a recycled pid can mislead: a free lock
means that the process and all its helpers are gone, a held one that something still works on that data. The file's text
(pid and start time) only says quickly who; when it does not fit, the holder is looked up among all processes.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import psutil

from tradebot.private_files import private_directory

SUFFIX = ".lock"
CLOCK_STEP_S = 1.0  # psutil derives a start time from the boot time, which moves a little with the wall clock


class ProcessLock:
    """The lock file of the process called `name`."""

    def __init__(self, run_dir: Path, name: str) -> None:
        self.name = name
        self.path = run_dir / f"{name}{SUFFIX}"

    def claim(self) -> int | None:
        """Take the lock and return its file descriptor, to be passed on to a child or kept; None while another holds it."""
        private_directory(self.path.parent)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def write(self, descriptor: int, pid: int) -> None:
        """Note who holds the lock now."""
        try:
            started_s = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            started_s = 0.0
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": pid, "started_s": started_s}).encode(), 0)

    @property
    def held(self) -> bool:
        if not self.path.exists():
            return False
        descriptor = self.claim()
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def holder(self) -> psutil.Process | None:
        """The living process behind a held lock; None when the lock is free, or held by nobody that we may look at."""
        return (self._noted() or self._found()) if self.held else None

    def _noted(self) -> psutil.Process | None:
        """The process that the file names, if it is still the same one: a recycled pid has another start time."""
        try:
            note = json.loads(self.path.read_text(encoding="utf-8"))
            process = psutil.Process(int(note["pid"]))
            return process if abs(process.create_time() - float(note["started_s"])) < CLOCK_STEP_S else None
        except (OSError, ValueError, TypeError, KeyError, psutil.Error):
            return None

    def _found(self) -> psutil.Process | None:
        """The oldest process that has the lock file open: helpers inherit it from the one to signal."""
        found: list[psutil.Process] = []
        wanted = str(self.path.resolve())
        for process in psutil.process_iter():
            try:
                if any(file.path == wanted for file in process.open_files()):
                    found.append(process)
            except psutil.Error:
                continue  # gone meanwhile, or another user's: not one of ours
        return min(found, key=lambda process: process.create_time(), default=None)


def locks_in(run_dir: Path) -> list[ProcessLock]:
    """The locks of all processes that ever ran in this home directory."""
    return [ProcessLock(run_dir, path.name.removesuffix(SUFFIX)) for path in sorted(run_dir.glob(f"*{SUFFIX}"))]
