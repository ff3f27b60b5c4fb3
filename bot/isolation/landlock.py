"""Which files a worker may read: the Python installation and nothing else. Linux 5.13 and newer, where Landlock is switched on.

The rules are made once, in the nursery, and every worker puts them on itself. They also refuse TCP (Linux 6.7) and signals to
processes outside (6.12). What Landlock leaves open: whether a path exists, and its size, can be asked.

Source: https://docs.kernel.org/userspace-api/landlock.html and include/uapi/linux/landlock.h, read 2026-11-21.
"""

from __future__ import annotations

import ctypes
import os
import platform
import site
import struct
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_CREATE_RULESET: Final = 444  # the same numbers on all machines
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_PR_SET_NO_NEW_PRIVS: Final = 38
_VERSION: Final = 1
_PATH_BENEATH: Final = 1

_EXECUTE: Final = 1 << 0
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 5: 16}
"""From this version on, so many of the lowest bits are rights on files."""
_NETWORK_SINCE: Final = 4
_NETWORK: Final = 0b11  # bind and connect TCP
_SCOPES_SINCE: Final = 6
_SCOPES: Final = 0b11  # abstract UNIX sockets, signals

_SYSTEM: Final = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/usr/share/zoneinfo", "/etc/localtime",
    "/dev/urandom", "/sys/devices/system/cpu",
)  # fmt: skip
"""Shared libraries of extension modules, time zones, chance, and how many processors there are (numpy asks)."""


def version() -> int:
    """The version of the kernel's Landlock; 0 when there is none."""
    if platform.system() != "Linux":
        return 0
    answer: int = ctypes.CDLL(None, use_errno=True).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    return max(answer, 0)


def readable(packages: Iterable[Path]) -> list[Path]:
    """What a plugin may read: Python, its libraries, and these packages of ours."""
    wanted = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *site.getsitepackages(), *_SYSTEM]
    if site.ENABLE_USER_SITE:
        wanted.append(site.getusersitepackages())
    wanted += [f"{prefix}/{name}" for prefix in {sys.base_prefix, sys.base_exec_prefix} for name in ("lib", "lib64")]
    return [path for path in {*map(Path, wanted), *packages} if os.access(path, os.R_OK)]


def make_rules(paths: Iterable[Path]) -> int:
    """A file descriptor of rules that let these files and folders be read and refuse the rest; raises OSError."""
    known = version()
    bits = next(count for since, count in sorted(_FILE_RIGHTS.items(), reverse=True) if known >= since)
    attributes = struct.pack("=Q", (1 << bits) - 1)
    if known >= _NETWORK_SINCE:
        attributes += struct.pack("=Q", _NETWORK)
    if known >= _SCOPES_SINCE:
        attributes += struct.pack("=Q", _SCOPES)
    rules = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    for path in paths:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rights = _READ_FILE | _EXECUTE | (_READ_DIR if path.is_dir() else 0)
            _call(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
        finally:
            os.close(place)
    return rules


def restrict(rules: int) -> None:
    """Put the rules on this process for good; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call(_RESTRICT_SELF, rules, 0)


def _call(number: int, *arguments: object) -> int:
    answer: int = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock: {os.strerror(code)}")
    return answer
