"""The filter's decisions for both machines, by an interpreter of its own language."""

from __future__ import annotations

import errno
import os
import re
import struct
from pathlib import Path

import pytest

from bot.isolation.seccomp import ABSENT, ALLOWED, CHECKED, program

ALLOW = 0x7FFF0000
KILL = 0x80000000
PID = 4711
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def refused(number: int) -> int:
    return 0x00050000 | number


def decide(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter returns for this call."""
    column, own = MACHINES[machine]
    code = program(column, own, PID)
    data = struct.pack("=iIQ6Q", number, own if architecture is None else architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    lines = list(struct.iter_unpack("=HBBI", code))
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, value = lines[at]
        at += 1
        if operation == 0x06:
            return int(value)
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[operation]
            at += if_true if holds else if_false


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def number_of(machine: str, name: str) -> int:
    number = {**ALLOWED, **CHECKED, **ABSENT}[name][MACHINES[machine][0]]
    assert number is not None
    return number


def test_what_computing_needs_is_allowed(machine: str) -> None:
    numbers = [columns[MACHINES[machine][0]] for columns in ALLOWED.values()]

    assert {decide(machine, number) for number in numbers if number is not None} == {ALLOW}


def test_what_is_not_named_is_refused_whatever_it_is(machine: str) -> None:
    column = MACHINES[machine][0]
    named = {columns[column] for columns in (*ALLOWED.values(), *CHECKED.values(), *ABSENT.values())}

    assert {decide(machine, number) for number in range(600) if number not in named} == {refused(errno.EPERM)}


def test_files_are_opened_to_read_only(machine: str) -> None:
    openat = number_of(machine, "openat")

    assert decide(machine, openat, 0, 0, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY) == ALLOW
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_RDWR | os.O_CLOEXEC):
        assert decide(machine, openat, 0, 0, flags) == refused(errno.EPERM)


def test_limits_are_read_and_not_set(machine: str) -> None:
    prlimit = number_of(machine, "prlimit64")

    assert decide(machine, prlimit, 0, 7, 0, 1) == ALLOW
    assert decide(machine, prlimit, 0, 7, 1, 0) == refused(errno.EPERM)
    assert decide(machine, prlimit, 0, 7, 1 << 40, 0) == refused(errno.EPERM)  # only the high half of the pointer
    assert decide(machine, prlimit, PID + 1, 7, 0, 1) == refused(errno.EPERM)


def test_it_may_signal_itself_and_nobody_else(machine: str) -> None:
    tgkill = number_of(machine, "tgkill")

    assert decide(machine, tgkill, PID, PID, 11) == ALLOW
    assert decide(machine, tgkill, PID - 1, PID - 1, 11) == refused(errno.EPERM)


def test_descriptors_are_copied_and_never_made_to_signal(machine: str) -> None:
    fcntl = number_of(machine, "fcntl")

    assert decide(machine, fcntl, 3, 1030) == ALLOW
    assert decide(machine, fcntl, 3, 8) == refused(errno.EPERM)


def test_newer_calls_do_not_exist_so_that_the_older_ones_are_taken(machine: str) -> None:
    for name in ABSENT:
        assert decide(machine, number_of(machine, name)) == refused(errno.ENOSYS)


def test_another_way_into_the_kernel_ends_it(machine: str) -> None:
    assert decide(machine, 0, architecture=0x40000003) == KILL
    assert decide("x86_64", 0x40000000) == refused(errno.EPERM)


def test_the_numbers_are_those_of_the_kernel(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip(f"needs {HEADERS[machine]}, from the kernel's headers")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text())
    known = {name: int(number) for name, number in reversed(found)}
    renamed = {"newfstatat": "fstatat"} if machine == "aarch64" else {}
    for name, columns in {**ALLOWED, **CHECKED, **ABSENT}.items():
        number = columns[MACHINES[machine][0]]
        if number is not None:
            assert known[renamed.get(name, name)] == number, name
