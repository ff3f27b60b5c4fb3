"""A filter of system calls for a worker: what a plugin needs to compute, and nothing by which it could touch anything else.

It lists what is allowed, so that a call that is not known here, or that a newer kernel brings, is refused with EPERM. Looking is
allowed (files are Landlock's to refuse), and so are memory and time; processes and threads, sockets, signals to others, writing
and changing files, limits and priorities are not. Linux on x86-64 and ARM64.

Numbers: Linux's arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h. The filter: seccomp(2) of the Linux
manual. Both read 2026-11-21.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final

_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_SET_MODE_FILTER: Final = 1

_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_ERRNO: Final = 0x00050000

# struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits (the low half first on both machines)
_NUMBER_AT: Final = 0
_ARCHITECTURE_AT: Final = 4
_ARGUMENTS_AT: Final = 16

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

_X32: Final = 0x40000000
"""Bit of the numbers of the x32 interface, which is another way to the same calls."""

_MACHINES: Final = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277), "arm64": (1, 0xC00000B7, 277)}
"""Column of the tables below, the architecture's name in the filter, and the number of seccomp itself."""

ALLOWED: Final[dict[str, tuple[int | None, int | None]]] = {
    # reading and writing what is open already: the socket to the bot and the log
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67), "lseek": (8, 62),
    "close": (3, 57), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "recvfrom": (45, 207), "sendto": (44, 206),
    "select": (23, None), "pselect6": (270, 72), "poll": (7, None), "ppoll": (271, 73),
    # looking at files, which importing a module does
    "stat": (4, None), "lstat": (6, None), "fstat": (5, 80), "newfstatat": (262, 79), "statx": (332, 291), "statfs": (137, 43),
    "fstatfs": (138, 44), "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439), "readlink": (89, None),
    "readlinkat": (267, 78), "getcwd": (79, 17), "getdents64": (217, 61), "fadvise64": (221, 223),
    # memory
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216), "madvise": (28, 233), "brk": (12, 214),
    "membarrier": (324, 283), "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293), "arch_prctl": (158, None),
    "set_tid_address": (218, 96),
    # time, chance, and who and where one is
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153), "getrandom": (318, 278), "getpid": (39, 172),
    "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176),
    "getegid": (108, 177), "uname": (63, 160), "sysinfo": (99, 179), "getrusage": (98, 165), "getrlimit": (97, 163),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "getcpu": (309, 168),
    # its own signals and its own end
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "restart_syscall": (219, 128), "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
"""Allowed with any arguments: number on x86-64, number on ARM64; None where there is no such call."""

CHECKED: Final[dict[str, tuple[int | None, int | None]]] = {
    "open": (2, None), "openat": (257, 56), "ioctl": (16, 29), "fcntl": (72, 25), "prlimit64": (302, 261), "tgkill": (234, 131),
}  # fmt: skip
"""Allowed with some arguments only."""

ABSENT: Final[dict[str, tuple[int | None, int | None]]] = {"clone3": (435, 435), "openat2": (437, 437)}
"""Their arguments lie in memory, where a filter cannot look. Told that they do not exist, the C library takes the older calls."""

_TO_WRITE: Final = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC
_FCNTL: Final = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC; F_SETOWN could signal others
_IOCTL: Final = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def supported() -> bool:
    """Whether there is a filter for this machine; the kernel may still refuse it."""
    return platform.system() == "Linux" and platform.machine() in _MACHINES


def install() -> None:
    """Put the filter on this process for good; raises OSError when the kernel refuses."""
    column, architecture, own_number = _MACHINES[platform.machine()]
    code = program(column, architecture, os.getpid())
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(
        own_number, _SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(_Program(len(code) // 8, code))
    ):
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")


def program(column: int, architecture: int, pid: int) -> bytes:
    """The filter as the kernel reads it: eight bytes an instruction."""
    lines = [
        _line(_LOAD, _ARCHITECTURE_AT),
        _line(_EQUAL, architecture, 1, 0),
        _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER_AT),
        _line(_AT_LEAST, _X32, 0, 1),
        _line(_RETURN, _ERRNO | errno.EPERM),
    ]
    for numbers in ALLOWED.values():
        lines += _case(numbers[column], [_line(_RETURN, _ALLOW)])
    for name, numbers in CHECKED.items():
        lines += _case(numbers[column], _condition(name, pid))
    for numbers in ABSENT.values():
        lines += _case(numbers[column], [_line(_RETURN, _ERRNO | errno.ENOSYS)])
    lines.append(_line(_RETURN, _ERRNO | errno.EPERM))
    return b"".join(lines)


def _condition(name: str, pid: int) -> list[bytes]:
    """What decides on a call by its arguments."""
    if name in {"open", "openat"}:
        flags = 1 if name == "open" else 2
        return [_argument(flags), _line(_ANY_BIT, _TO_WRITE, 0, 1), *_refuse(errno.EPERM), _line(_RETURN, _ALLOW)]
    if name == "ioctl":
        return _one_of(1, _IOCTL, errno.ENOTTY)
    if name == "fcntl":
        return _one_of(1, _FCNTL, errno.EPERM)
    if name == "tgkill":  # abort() and raise(), so that a crash keeps its name
        return _one_of(0, (pid,), errno.EPERM)
    # prlimit64: reading one's own limits, that is process 0 and no new limit in either half of the pointer
    none = [_argument(0), _line(_EQUAL, 0, 1, 0), *_refuse(errno.EPERM)]
    none += [_argument(2), _line(_EQUAL, 0, 1, 0), *_refuse(errno.EPERM)]
    none += [_line(_LOAD, _ARGUMENTS_AT + 2 * 8 + 4), _line(_EQUAL, 0, 1, 0), *_refuse(errno.EPERM)]
    return [*none, _line(_RETURN, _ALLOW)]


def _one_of(argument: int, values: tuple[int, ...], refusal: int) -> list[bytes]:
    lines = [_argument(argument)]
    for value in values:
        lines += [_line(_EQUAL, value, 0, 1), _line(_RETURN, _ALLOW)]
    return [*lines, *_refuse(refusal)]


def _case(number: int | None, then: list[bytes]) -> list[bytes]:
    """`then`, which returns, if the loaded number is this one."""
    return [] if number is None else [_line(_EQUAL, number, 0, len(then)), *then]


def _refuse(number: int) -> list[bytes]:
    return [_line(_RETURN, _ERRNO | number)]


def _argument(index: int) -> bytes:
    return _line(_LOAD, _ARGUMENTS_AT + 8 * index)


def _line(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
