"""The process that workers are forked from: small, synchronous, and without anything that a plugin could want.

    python -m bot.isolation.nursery CONTROL_FD [--without BARRIER ...]

The bot starts it with an environment of its own making, so that it has never held a secret. It imports once what plugins need; a
worker then costs one fork, and shares that memory. It starts workers, whose connections and logs come along as descriptors, signals
them, and tells how they end. When the bot goes away, it ends all workers and itself.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import site
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

import common_models
import strategy
import trading
from bot.isolation import landlock, worker
from bot.isolation.limits import Boundaries, Confinement, become_subreaper, die_with_parent, plan, system_name
from bot.isolation.protocol import FrameReader, pack

PRELOADED: Final = (
    "pydantic",
    "strategy.testing",
    "strategy.indicators",
    "statistics",
    "logging",
    "dataclasses",
    "enum",
    "random",
    "bisect",
)
"""What plugins import, beside what the worker itself does."""

MAX_FRAME_BYTES: Final = 64 * 1024
SWEEP_ROUNDS: Final = 100
SWEEP_PAUSE_S: Final = 0.001

CONNECTION_FD: Final = 3
RULES_FD: Final = 4
HIGH_FD: Final = 100
"""Descriptors are moved out of the way to here before they get their places."""
HIGHEST_FD: Final = 65_536
"""The nursery has but a few."""


class Spawn(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Start worker `number`; two descriptors come along: its connection and its log."""

    number: int
    title: str
    memory_mb: int


class Signal(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Let worker `number` say where it is, or with `kill` end it and everything that it started."""

    number: int
    kill: bool


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Said once: which barriers hold, and the address space of a worker before it loads a plugin, in bytes."""

    boundaries: Boundaries
    base_bytes: int


class Spawned(msgspec.Struct, frozen=True, array_like=True, tag=2):
    number: int
    pid: int


class Exited(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Worker `number` is no more; `status` is as from waitpid()."""

    number: int
    status: int


Order = Spawn | Signal
Report = Ready | Spawned | Exited


class Nursery:
    """`control` is the socket to the bot."""

    def __init__(self, control: socket.socket, confinement: Confinement) -> None:
        self._control = control
        self._confinement = confinement
        self._orders = msgspec.msgpack.Decoder(Order)
        self._reader = FrameReader(MAX_FRAME_BYTES)
        self._descriptors: deque[int] = deque()
        self._pids: dict[int, int] = {}  # by number
        self._held: dict[str, bool] = {}
        self._subreaper = become_subreaper()
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_w, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)

    def run(self) -> None:
        """Work until the bot goes away."""
        boundaries, self._held = self._try_out()
        self._tell(Ready(boundaries, self._confinement.base_bytes))
        try:
            while True:
                ready, _, _ = select.select([self._control.fileno(), self._wake_r], [], [])
                if self._wake_r in ready:
                    os.read(self._wake_r, 4096)
                    self._reap()
                if self._control.fileno() in ready and not self._obey():
                    return
        except (BrokenPipeError, ConnectionResetError):
            return
        finally:
            for pid in self._pids.values():
                _kill_session(pid)
            self._sweep()

    def _obey(self) -> bool:
        """Do what came; False when the bot is gone."""
        data, descriptors, _, _ = socket.recv_fds(self._control, MAX_FRAME_BYTES, 16)
        self._descriptors.extend(descriptors)
        if not data:
            return False
        for body in self._reader.feed(data):
            order = self._orders.decode(body)
            if isinstance(order, Spawn):
                self._spawn(order)
            elif order.number in self._pids:
                pid = self._pids[order.number]
                if order.kill:
                    _kill_session(pid)
                else:
                    os.kill(pid, worker.DUMP_SIGNAL)
        return True

    def _spawn(self, order: Spawn) -> None:
        connection, log = self._descriptors.popleft(), self._descriptors.popleft()
        pid = os.fork()
        if pid == 0:
            _become_worker(self._confinement, self._held, order, connection, log)
        os.close(connection)
        os.close(log)
        self._pids[order.number] = pid
        self._tell(Spawned(order.number, pid))

    def _reap(self) -> None:
        """Tell the bot who has ended, and end what such a worker may have left behind."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = next((number for number, known in self._pids.items() if known == pid), None)
            if number is None:
                continue  # a process that a worker started and left behind
            del self._pids[number]
            _kill(os.killpg, pid)  # who is left of its group; its own number may be another's by now
            self._sweep()
            self._tell(Exited(number, status))

    def _sweep(self) -> None:
        """End every child that is no worker: it was started by one that is gone, and has left its session."""
        for _ in range(SWEEP_ROUNDS if self._subreaper else 0):
            strays = children_of(os.getpid()) - set(self._pids.values())
            if not strays:
                return
            for pid in strays:
                _kill(os.kill, pid)
                os.waitpid(pid, os.WNOHANG)  # what it started becomes a child of this process, and is found in a later round
            time.sleep(SWEEP_PAUSE_S)

    def _try_out(self) -> tuple[Boundaries, dict[str, bool]]:
        """Let a process put everything on itself and say what holds: no worker shall run a plugin with less."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            held = self._confinement.enter("trial", 64)
            os.write(write, json.dumps(held).encode())
            os._exit(0)
        os.close(write)
        with open(read, "rb") as pipe:
            held = json.loads(pipe.read() or b"{}")
        os.waitpid(pid, 0)
        boundaries = Boundaries(
            system=system_name(),
            user="root" if os.geteuid() == 0 else "ordinary",
            landlock=landlock.version() if held.get("landlock") else 0,
            **{name: bool(held.get(name)) for name in ("seccomp", "capabilities", "memory", "processes", "parent")},
        )
        return boundaries, held

    def _tell(self, report: Report) -> None:
        self._control.sendall(pack(report))


def _become_worker(confinement: Confinement, held: dict[str, bool], order: Spawn, connection: int, log: int) -> None:
    """The child's side of the fork; never returns. `held` is what must hold before a plugin may run."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        rules = confinement.rules
        connection, log = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD) for fd in (connection, log))
        if rules >= 0:
            rules = fcntl.fcntl(rules, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
            os.dup2(rules, RULES_FD)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(connection, CONNECTION_FD)
        os.closerange(RULES_FD + (rules >= 0), HIGHEST_FD)
        bot = socket.socket(fileno=CONNECTION_FD)  # made now: the filter forbids to ask what kind of socket it is
        confinement = Confinement(confinement.base_bytes, RULES_FD if rules >= 0 else -1, confinement.seccomp)
        if (now := confinement.enter(order.title, order.memory_mb)) != held:
            raise RuntimeError(  # noqa: TRY301 told where all else is
                f"barriers that held in the trial do not hold now: {now}, expected {held}"
            )
        if rules >= 0:
            os.close(RULES_FD)
        worker.serve(bot)
    except BaseException:  # noqa: BLE001 nothing may return into the nursery's code; the log of the worker gets it
        import traceback

        traceback.print_exc()
    finally:
        os._exit(1)


def children_of(pid: int) -> set[int]:
    """The processes that this one is the parent of; none where the system does not tell."""
    try:
        lists = [task.joinpath("children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return set()
    return {int(child) for text in lists for child in text.split()}


def _kill_session(pid: int) -> None:
    """End a worker and all that it started and that stayed in its group: the kernel does it in one go, forks under way included."""
    _kill(os.killpg, pid)
    _kill(os.kill, pid)  # it may not have its own session yet


def _kill(kill: Callable[[int, int], None], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of processes that are ending
        kill(number, signal.SIGKILL)


def main() -> None:
    """Be the nursery."""
    arguments = argparse.ArgumentParser(prog="bot.isolation.nursery")
    arguments.add_argument("control", type=int)
    arguments.add_argument("--without", action="append", default=[], choices=("seccomp", "landlock"))
    options = arguments.parse_args()
    parent = os.getppid()
    die_with_parent()
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the bot, whose end is heard of on the socket
    sys.dont_write_bytecode = True
    for name in PRELOADED:
        importlib.import_module(name)
    packages = tuple(Path(module.__file__ or "").parent for module in (strategy, common_models, trading))
    ours = {str(package.parent) for package in packages} - set(site.getsitepackages())
    sys.path[:] = [path for path in sys.path if path and path not in ours]  # no file beside ours or a plugin is a module
    gc.collect()
    gc.freeze()
    Nursery(socket.socket(fileno=options.control), plan(packages, frozenset(options.without))).run()


if __name__ == "__main__":
    main()
