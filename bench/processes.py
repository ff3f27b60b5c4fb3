"""Child processes of a benchmark: started in a directory of their own, measured, and always ended."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

from runtime.settings import BusSettings
from tradebot.server_valkey import BundledValkey

ROOT = Path(__file__).resolve().parents[1]


class Run:
    """A directory, and the processes that were started in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, argv: list[str], env: Mapping[str, str] | None = None, *, stdout: int | None = None
    ) -> subprocess.Popen[bytes]:
        log = (self.directory / f"{name}.log").open("ab")
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdout=log if stdout is None else stdout,
            stderr=log,
            start_new_session=True,
        )
        self.processes[name] = process
        return process

    def python(
        self, name: str, *arguments: str, env: Mapping[str, str] | None = None, stdout: int | None = None
    ) -> subprocess.Popen[bytes]:
        return self.start(name, [sys.executable, "-m", *arguments], env, stdout=stdout)

    def valkey(self) -> str:
        """The URL of a fresh Valkey with the settings of the stack: AOF everysec, noeviction."""
        server = BundledValkey(self.directory, BusSettings(port=0, maxmemory_mb=2048))
        server.prepare()
        process = self.start("valkey", list(server.argv))
        wait_for(lambda: server.ready(process.pid), "valkey")
        return server.url

    def cpu_s(self, name: str) -> float:
        """User and system time of a process so far, seconds."""
        times = psutil.Process(self.processes[name].pid).cpu_times()
        return times.user + times.system

    def pss_mb(self, name: str) -> float:
        return pss_mb(self.processes[name].pid)

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def pss_mb(pid: int) -> float:
    """Proportional set size of a process, MB: memory shared with others counted in parts."""
    return float(psutil.Process(pid).memory_full_info().pss) / 1e6


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(0.005)


@contextlib.contextmanager
def running() -> Iterator[Run]:
    """A run whose processes end with the block, newest first."""
    with tempfile.TemporaryDirectory(prefix="tradebot-bench-") as directory:
        run = Run(Path(directory))
        try:
            yield run
        finally:
            for name in reversed(list(run.processes)):
                run.stop(name)
