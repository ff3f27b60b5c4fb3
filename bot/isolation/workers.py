"""Where workers come from, on the bot's side: starts the nursery, asks it for workers, and looks after all of them every tick."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

import bot
from bot.isolation.limits import Boundaries
from bot.isolation.nursery import Exited, Ready, Report, Signal, Spawn, Spawned
from bot.isolation.patience import TICK_S
from bot.isolation.plugin_log import PluginLog
from bot.isolation.protocol import MAX_SIGNALS_PER_S, FrameReader, pack
from bot.isolation.source import PluginRefused, PluginSource
from bot.isolation.tally import Stats
from bot.isolation.worker_link import Limits, NurseryGone, Worker, WorkerGone
from runtime.settings import WorkerSettings
from strategy import Market

__all__ = ["Nursery", "NurseryGone", "PluginRefused", "PluginSource", "Stats", "Worker", "WorkerGone"]

log = structlog.get_logger(__name__)

START_TIMEOUT_S: Final = 20.0
STOP_GRACE_S: Final = 2.0
THOROUGH_EVERY: Final = 10
"""Ticks between looks at what a worker holds."""
MAX_REPORT_BYTES: Final = 64 * 1024

PASSED_ON: Final = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")
"""All that the nursery gets of the bot's environment."""

SINGLE_THREADED: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""numpy would start threads when it is imported, which a worker may not."""


class Nursery:
    """Owns the nursery process and its workers. `log_dir` is where the plugins' logs go, None for nowhere.

    `on_lost` is called when the nursery itself has died, and every worker with it, by no fault of a plugin; the next `open` starts
    another. Without `on_lost`, each worker's `on_gone` is called. `without` leaves barriers away, to test what then still holds.
    `signals_per_s` is what a worker may say on average over a few seconds.
    """

    def __init__(
        self, settings: WorkerSettings, log_dir: Path | None, *, without: Sequence[str] = (), signals_per_s: int = MAX_SIGNALS_PER_S
    ) -> None:
        self._settings = settings
        self._log_dir = log_dir
        self._without = tuple(without)
        self._signals_per_s = signals_per_s
        self._numbers = itertools.count(1)
        self._workers: dict[int, Worker] = {}
        self._spawned: dict[int, asyncio.Future[int]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._reader = FrameReader(MAX_REPORT_BYTES)
        self._reports = msgspec.msgpack.Decoder(Report)
        self._ready: asyncio.Future[Ready] | None = None
        self._starting = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._looked_s = 0.0
        self.on_lost: Callable[[], None] | None = None

    @property
    def boundaries(self) -> Boundaries:
        """What holds the workers, once the nursery has started."""
        if self._ready is None or not self._ready.done():
            raise RuntimeError("the nursery has not started")
        return self._ready.result().boundaries

    @property
    def pid(self) -> int:
        """The nursery's process; 0 when there is none."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start the nursery unless it runs; raises NurseryGone when it cannot."""
        async with self._starting:
            if self._process is not None:
                return
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            ours.setblocking(False)
            with theirs:
                self._process = subprocess.Popen(  # noqa: ASYNC220, S603 milliseconds, and it must be this thread's child
                    self._command(theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=_environment(),
                    cwd="/",
                )
            self._control, self._ready, self._reader = ours, loop.create_future(), FrameReader(MAX_REPORT_BYTES)
            loop.add_reader(ours, self._hear)
            try:
                ready = await asyncio.wait_for(asyncio.shield(self._ready), START_TIMEOUT_S)
            except TimeoutError:
                self._lose()
                self._ready.exception()  # told by the next line
                raise NurseryGone(f"the nursery did not start within {START_TIMEOUT_S:.0f} s") from None
            self._looked_s = loop.time()
            self._timer = loop.call_later(TICK_S, self._tick)
            for text in ready.boundaries.lacking:
                log.warning("plugins.boundary_lacking", what=text)

    async def open(self, source: PluginSource, settings: Mapping[str, Any], markets: Sequence[Market]) -> Worker:
        """A worker that has loaded the file; raises PluginRefused, or WorkerGone when the file ended its worker."""
        await self.start()
        assert self._ready is not None
        loop, number = asyncio.get_running_loop(), next(self._numbers)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        pipe, log_end = os.pipe()
        try:
            ours.setblocking(False)
            os.set_blocking(pipe, False)
            plugin_log = PluginLog(pipe, self._log_dir, source, self._settings.log_lines_per_s, self._settings.log_mb * 1_000_000)
            held = self._ready.result()
            limits = Limits(
                self._settings.call_s,
                self._settings.memory_mb,
                held.base_bytes,
                self._signals_per_s,
                watch_company=not held.boundaries.seccomp,
                watch_memory=not held.boundaries.memory,
            )
            worker = self._workers[number] = Worker(number, source, ours, plugin_log, limits, self._signal)
            spawned = self._spawned[number] = loop.create_future()
            title = Path(source.path).stem
            self._order(Spawn(number, title, self._settings.memory_mb), (theirs.fileno(), log_end))
        finally:
            theirs.close()
            os.close(log_end)
        try:
            worker.pid = await spawned
            await worker.start(source, settings, markets)
        except asyncio.CancelledError:
            worker.kill("nobody waits for it any more")
            raise
        return worker

    async def close(self) -> None:
        """End all workers and the nursery."""
        await asyncio.gather(*(worker.stop() for worker in list(self._workers.values())))
        process = self._process
        self._forget()
        if process is not None:
            try:
                await asyncio.to_thread(process.wait, STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)

    def _command(self, control: int) -> list[str]:
        """-P: no folder goes on the import path by itself; -B: nothing is written beside the sources."""
        command = [sys.executable, "-P", "-B", "-m", "bot.isolation.nursery", str(control)]
        return command + [part for name in self._without for part in ("--without", name)]

    def _order(self, order: Spawn | Signal, descriptors: Sequence[int] = ()) -> None:
        if self._control is None:
            return
        try:
            socket.send_fds(self._control, [pack(order)], list(descriptors))
        except OSError:  # it is gone or does not listen any more: either way it is of no use
            self._lose()

    def _signal(self, number: int, *, kill: bool) -> None:
        self._order(Signal(number, kill))

    def _hear(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(MAX_REPORT_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        for body in self._reader.feed(data):
            report = self._reports.decode(body)
            if isinstance(report, Ready):
                assert self._ready is not None
                self._ready.set_result(report)
            elif isinstance(report, Spawned):
                spawned = self._spawned.pop(report.number)
                if not spawned.done():
                    spawned.set_result(report.pid)
            else:
                self._exited(report)

    def _exited(self, report: Exited) -> None:
        worker = self._workers.pop(report.number, None)
        if worker is not None:
            worker.exited(report.status)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(TICK_S, self._tick)
        now_s = loop.time()
        elapsed_s, self._looked_s = now_s - self._looked_s, now_s
        self._ticks += 1
        for worker in list(self._workers.values()):
            try:
                worker.look(elapsed_s, thoroughly=self._ticks % THOROUGH_EVERY == 0)
            except Exception:  # the boundary: the other workers must be looked after
                log.exception("plugin.watch_failed", plugin=worker.name)

    def _lose(self) -> None:
        """The nursery is gone without having been told to go: so are all workers."""
        workers, self._workers = list(self._workers.values()), {}
        process = self._process
        self._forget()
        if process is not None:
            process.kill()
            process.wait()
            log.error("plugins.nursery_lost", workers=len(workers))
        for worker in workers:
            worker.lost(tell=self.on_lost is None)
        if self.on_lost is not None:
            self.on_lost()

    def _forget(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        if self._control is not None:
            loop.remove_reader(self._control)
            self._control.close()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(NurseryGone("the nursery ended while it started"))
        for spawned in self._spawned.values():
            if not spawned.done():
                spawned.set_exception(NurseryGone("the nursery ended"))
        self._spawned.clear()
        self._process = self._control = self._timer = None


def _environment() -> dict[str, str]:
    """What the nursery and all plugins see: nothing of ours. The hash seed is fixed so that a plugin's sets have one order."""
    return {
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **SINGLE_THREADED,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(Path(bot.__file__).resolve().parents[1]),
    }
