"""The emergency stop: a durable fact on disk, looked at in the last step before an order's bytes leave.

While it is pressed nothing that adds risk is sent; cancels and orders that only reduce still pass. It fails closed: a stop that
cannot be read is a pressed one, and so is a missing file in an existing folder (folder and file are made in one step).

Sender and presser exclude each other by a file lock: a sender holds it from its look until its bytes are with the kernel, and
`press` waits for it. So when `press` has returned, no order passes that looked before.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from runtime.clock import monotonic_s, now_ns

WAIT_FOR_SENDERS_S = 2.0


class StopState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the stop is pressed, by whom, why and since when (UTC nanoseconds)."""

    pressed: bool
    reason: str
    actor: str
    at_ns: int


def press(home: Path, reason: str, actor: str) -> StopState:
    """Forbid new risk from now on, durably; returns the state in force. Raises OSError when the disk refuses."""
    return _write(home, StopState(pressed=True, reason=reason, actor=actor, at_ns=now_ns()))


def release(home: Path, actor: str) -> StopState:
    """Allow new risk again, durably; returns the state in force. Raises OSError when the disk refuses."""
    return _write(home, StopState(pressed=False, reason="", actor=actor, at_ns=now_ns()))


def read(home: Path) -> StopState:
    """The state in force; a stop that cannot be read counts as pressed, with the reason. A home without one has none."""
    if not _folder(home).exists():
        return StopState(pressed=False, reason="", actor="", at_ns=0)
    try:
        return msgspec.json.decode(_file(home).read_bytes(), type=StopState)
    except (OSError, msgspec.MsgspecError) as error:
        return unreadable(error)


def unreadable(error: Exception) -> StopState:
    """What counts when the state cannot be known."""
    return StopState(
        pressed=True, reason=f"the stop state cannot be read: {error}; `tradebot resume` writes it anew", actor="", at_ns=0
    )


class StopSwitch:
    """The connector's view. A look costs one stat call while nothing changes."""

    def __init__(self, home: Path) -> None:
        self._path = _file(home)
        _make_folder(home)
        self._lock = os.open(_lock_file(home), os.O_RDWR | os.O_CREAT, 0o600)
        self._seen: tuple[int, int, int] | None = None
        self._state = StopState(pressed=True, reason="not read yet", actor="", at_ns=0)

    @property
    def state(self) -> StopState:
        """The state in force now."""
        try:
            status = self._path.stat()
            signature = (status.st_ino, status.st_mtime_ns, status.st_size)
            if signature != self._seen:
                self._state = msgspec.json.decode(self._path.read_bytes(), type=StopState)
                self._seen = signature
        except (OSError, msgspec.MsgspecError) as error:
            self._seen = None
            self._state = unreadable(error)
        return self._state

    @contextmanager
    def sending(self) -> Iterator[StopState]:
        """The state that holds until the block ends; counts as pressed while someone is pressing or releasing it."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            yield StopState(pressed=True, reason="the emergency stop is being changed", actor="", at_ns=now_ns())
            return
        try:
            yield self.state
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._lock)


def _write(home: Path, state: StopState) -> StopState:
    _make_folder(home)
    lock = os.open(_lock_file(home), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock_out_senders(lock)
        fresh = _folder(home) / f".state.{os.getpid()}"
        _write_synced(fresh, state)
        fresh.replace(_file(home))
        _sync_directory(_folder(home))
    finally:
        os.close(lock)
    return state


def _make_folder(home: Path) -> None:
    """Make the folder with a released stop in it, in one step: a process killed in between leaves no folder without a state."""
    folder = _folder(home)
    if folder.exists():
        return
    home.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".stop.", dir=home))
    _write_synced(fresh / "state.json", StopState(pressed=False, reason="", actor="first start", at_ns=now_ns()))
    try:
        fresh.rename(folder)
    except OSError:  # another process was first: its folder is not empty, so it cannot be replaced
        shutil.rmtree(fresh)
        if not folder.exists():
            raise
    _sync_directory(home)


def _write_synced(path: Path, state: StopState) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(state))
        file.flush()
        os.fsync(file.fileno())


def _lock_out_senders(lock: int) -> None:
    """Wait until nobody is between look and send; a sender that was frozen there does not hold up the stop for ever."""
    deadline_s = monotonic_s() + WAIT_FOR_SENDERS_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if monotonic_s() > deadline_s:
                return  # its request carries a time stamp that the venue will refuse when it thaws
            time.sleep(0.001)
        else:
            return


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _folder(home: Path) -> Path:
    return home / "stop"


def _file(home: Path) -> Path:
    return _folder(home) / "state.json"


def _lock_file(home: Path) -> Path:
    return _folder(home) / "lock"
