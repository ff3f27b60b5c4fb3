"""What a worker takes off itself before it runs a plugin, and which of it this system can do.

A worker gives up its session, all capabilities and the right to gain any, memory beyond a bound, open files beyond a few, writing
files, core dumps, processes and threads, reading other files than Python's, and most system calls. What a system lacks is in
`Boundaries`.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bot.isolation import landlock, seccomp

OPEN_FILES: Final = 64
MB: Final = 1024 * 1024

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_SIGKILL: Final = 9
_CAPSET: Final = {"x86_64": 126, "aarch64": 91}
_CAPABILITIES_V3: Final = 0x20080522

LACKING: Final = {
    "seccomp": "no filter of system calls: a plugin may try to open sockets and to signal processes of the same user",
    "landlock": "no Landlock: a plugin may read what the bot's user may read, secrets in files included",
    "capabilities": "capabilities cannot be given up: as root, a plugin keeps root's powers",
    "memory": "no bound on memory by the system: the bot looks at it and ends what has taken too much",
    "processes": "no bound on processes by the system (it does not bind root): the bot looks and ends what has started any",
    "parent": "no signal when the nursery dies: a worker ends when its connection closes, and one that never returns goes on",
}
"""What it means when a barrier is not there."""


class Boundaries(msgspec.Struct, frozen=True):
    """Which barriers stand around a worker, as tried out on this system. `lacking` says in words what is not there."""

    system: str
    user: str
    seccomp: bool
    landlock: int  # version, 0 is none
    capabilities: bool
    memory: bool
    processes: bool
    parent: bool

    @property
    def lacking(self) -> tuple[str, ...]:
        """One line for each barrier that is not there."""
        return tuple(text for name, text in LACKING.items() if not getattr(self, name))


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a worker shall be held by. `base_bytes` is the address space that a worker has before it loads a plugin.

    `rules` is the descriptor of Landlock's rules, -1 for none.
    """

    base_bytes: int
    rules: int
    seccomp: bool

    def enter(self, name: str, memory_mb: int) -> dict[str, bool]:
        """Put all barriers on this process for good, in the order in which one does not forbid the next; returns which hold."""
        nursery = os.getppid()
        os.setsid()
        held = {"parent": _try(lambda: _prctl(_PR_SET_PDEATHSIG, _SIGKILL))}
        if os.getppid() != nursery:
            os._exit(0)  # it died before it could be asked to tell
        _try(lambda: _prctl(_PR_SET_NAME, f"plugin-{name}".encode()[:15]))
        os.chdir("/")
        os.umask(0o077)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
        held["memory"] = _bounds_memory(self.base_bytes + memory_mb * MB)
        _try(lambda: _limit(resource.RLIMIT_NPROC, 0))
        held["capabilities"] = os.geteuid() != 0 or _try(_drop_capabilities)
        _try(lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1))
        held["landlock"] = self.rules >= 0 and _try(lambda: landlock.restrict(self.rules))
        held["seccomp"] = self.seccomp and _try(seccomp.install)
        held["processes"] = held["seccomp"] or os.geteuid() != 0
        return held


def plan(packages: tuple[Path, ...], without: frozenset[str]) -> Confinement:
    """What this system may be able to do, but for what the caller leaves out (tests of what then still holds)."""
    rules = -1
    if "landlock" not in without and landlock.version():
        rules = landlock.make_rules(landlock.readable(packages))
    return Confinement(address_space(), rules, "seccomp" not in without and seccomp.supported())


def become_subreaper() -> bool:
    """Let processes that lose their parent below this one become its own children, so that it can find and end them."""
    return _try(lambda: _prctl(_PR_SET_CHILD_SUBREAPER, 1))


def die_with_parent() -> None:
    """Be killed when the parent dies, where the system can do that."""
    _try(lambda: _prctl(_PR_SET_PDEATHSIG, _SIGKILL))


def address_space() -> int:
    """Bytes of address space that this process has now; of memory where the system tells no more."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def system_name() -> str:
    """The system and machine, for `Boundaries`."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"


def _bounds_memory(limit: int) -> bool:
    """Whether the bound on address space could be set and is one: macOS takes it and forgets it."""
    return platform.system() == "Linux" and _try(lambda: _limit(resource.RLIMIT_AS, limit))


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _drop_capabilities() -> None:
    header = struct.pack("=Ii", _CAPABILITIES_V3, 0)
    nothing = bytes(24)
    _checked(_libc().syscall(_CAPSET[platform.machine()], header, nothing))


def _prctl(option: int, value: int | bytes) -> None:
    _checked(_libc().prctl(option, value if isinstance(value, bytes) else ctypes.c_ulong(value), 0, 0, 0))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(answer: int) -> None:
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _try(put: Callable[[], None]) -> bool:
    """Whether this barrier could be put up; what the system lacks is no error but a fact that is told."""
    try:
        put()
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return True
