"""The supervisor: starts a stack in order, brings back what dies, and stops everything in order."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from runtime.clock import now_ns
from runtime.endpoints import write_private
from runtime.http_probe import probe_host
from runtime.settings import Settings
from tradebot.exit_codes import ExitCode
from tradebot.log_files import cut_when_long
from tradebot.managed_process import ManagedProcess, StartFailed, State
from tradebot.orphans import SUPERVISOR, end_orphans
from tradebot.private_files import private_directory
from tradebot.process_lock import ProcessLock
from tradebot.process_plan import ProcessSpec, stop_stage
from tradebot.scrape_targets import ScrapeTargets
from tradebot.story import Story
from tradebot.supervisor_metrics import SupervisorMetrics

HOUSEKEEPING_S = 1.0
STATE_FILE = "supervisor.json"
HURRY_S = 2.0
LOCK_TRIES = 20  # `tradebot status` may look at the lock in the moment that we take it
MB = 1_000_000


class Supervisor:
    """Runs the processes of `specs` until `stop` is set or the start fails. One per home directory, by a lock."""

    def __init__(self, settings: Settings, specs: Sequence[ProcessSpec], story: Story) -> None:
        self.settings = settings
        self.story = story
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.processes = [ManagedProcess(spec, settings, story) for spec in specs]
        self._by_name = {process.spec.name: process for process in self.processes}
        self._disk_is_low = False
        self._metrics_port = 0
        self._failure: StartFailed | None = None
        self._state_text = ""
        self._started_ns = now_ns()
        self._targets = ScrapeTargets(settings.run_dir, probe_host(settings))

    async def run(self) -> None:
        """Start, keep and stop everything. Raises StartFailed when the stack cannot start; then nothing is left running."""
        private_directory(self.settings.home)
        lock = await self._lock_home()
        try:
            self._check_disk()
            if self._disk_is_low:
                raise StartFailed(f"the disk is too full to start: {self.story.lines[-1].text}")
            with self._signals(), self._metrics():
                await self._end_orphans()
                await self._keep_all()
        finally:
            (self.settings.run_dir / STATE_FILE).unlink(missing_ok=True)
            self._targets.forget()
            os.close(lock)
        if self._failure is not None:
            raise self._failure

    async def _lock_home(self) -> int:
        lock = ProcessLock(self.settings.run_dir, SUPERVISOR)
        for _ in range(LOCK_TRIES):
            descriptor = lock.claim()
            if descriptor is not None:
                lock.write(descriptor, os.getpid())
                return descriptor
            await asyncio.sleep(0.01)
        holder = lock.holder()
        raise StartFailed(
            f"{self.settings.home} is already in use by `tradebot up`, process {holder.pid if holder else 'unknown'}: "
            "`tradebot status` shows it, `tradebot down` stops it, TRADEBOT_HOME=... starts a second stack elsewhere"
        )

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        endings = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in endings:
            loop.add_signal_handler(number, self._on_ending, number)
        loop.add_signal_handler(signal.SIGCHLD, self._on_child_ended)
        try:
            yield
        finally:
            for number in (*endings, signal.SIGCHLD):
                loop.remove_signal_handler(number)

    @contextlib.contextmanager
    def _metrics(self) -> Iterator[None]:
        server = SupervisorMetrics(self.settings, self.processes)
        self._metrics_port = server.port
        server.start()
        try:
            yield
        finally:
            server.stop()

    def _on_ending(self, number: signal.Signals) -> None:
        if not self.stop.is_set():
            self.story.tell(f"stopping ({number.name}): what is under way is finished and stored first")
            self.stop.set()
        elif not self.hurry.is_set():
            self.story.tell(f"hurrying: each process has {HURRY_S:.0f} s left", warning=True)
            self.hurry.set()

    def _on_child_ended(self) -> None:
        for process in self.processes:
            process.reap()

    async def _end_orphans(self) -> None:
        stubborn = await end_orphans(self.settings.run_dir, self.settings.supervisor.stop_grace_s, self.story)
        if stubborn:
            raise StartFailed(f"still running from an earlier start, and cannot be ended: {', '.join(stubborn)}")

    async def _keep_all(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            owned = [tasks.create_task(self._keep(process), name=process.spec.name) for process in self.processes]
            owned.append(tasks.create_task(self._keep_house(), name="housekeeping"))
            try:
                await self.stop.wait()
            finally:  # also when a bug in here ends the group: no process may be left behind
                self.stop.set()
                await self._stop_all()
                for task in owned:
                    task.cancel()

    async def _keep(self, process: ManagedProcess) -> None:
        """Start one process when those it builds on are ready, then keep it."""
        ready_timeout_s = self.settings.supervisor.ready_timeout_s
        try:
            for name in process.spec.needs:
                process.detail = f"for {name}"
                await self._by_name[name].was_ready.wait()
            for name in process.spec.after:
                process.detail = f"for {name}"
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._by_name[name].was_ready.wait(), ready_timeout_s)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(process.keep())
                if process.spec.essential:
                    tasks.create_task(self._expect_ready(process, ready_timeout_s))
        except* StartFailed as group:
            self._failure = self._failure or _first(group)
            self.stop.set()

    @staticmethod
    async def _expect_ready(process: ManagedProcess, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(process.was_ready.wait(), timeout_s)
        except TimeoutError:
            text = f"{process.spec.name} was not ready after {timeout_s:.0f} s: see {process.log_file}"
            raise StartFailed(text, ExitCode.TIMEOUT) from None

    async def _stop_all(self) -> None:
        """End the processes stage by stage: those who write before those who keep."""
        grace_s = self.settings.supervisor.stop_grace_s
        ordered = sorted(self.processes, key=lambda process: stop_stage(process.spec.name))
        for _, stage in itertools.groupby(ordered, key=lambda process: stop_stage(process.spec.name)):
            await asyncio.gather(*(process.stop(grace_s, self.hurry, HURRY_S) for process in stage))
            self._write_state()
        self.story.tell("everything has stopped")

    async def _keep_house(self) -> None:
        """Once a second: say how things are, watch the disk, keep the processes' output files short."""
        while True:
            self._write_state()
            self._tell_scrapers()
            self._check_disk()
            for process in self.processes:
                cut_when_long(process.log_file, self.settings.log.file_mb * MB)
            await asyncio.sleep(HOUSEKEEPING_S)

    def _check_disk(self) -> None:
        free_mb = shutil.disk_usage(self.settings.home).free // MB
        wanted_mb = self.settings.supervisor.min_free_disk_mb
        if free_mb < wanted_mb and not self._disk_is_low:
            self.story.tell(
                f"{self.settings.home} has {free_mb} MB free, less than supervisor.min_free_disk_mb = {wanted_mb}: make room",
                warning=True,
            )
        elif free_mb >= wanted_mb and self._disk_is_low:
            self.story.tell(f"{self.settings.home} has room again: {free_mb} MB")
        self._disk_is_low = free_mb < wanted_mb

    def _write_state(self) -> None:
        """What `tradebot status` reads; written when it changed."""
        state = {"mode": self.settings.mode.value, "started_ns": self._started_ns, "processes": [_row(p) for p in self.processes]}
        text = json.dumps(state)
        if text == self._state_text:
            return
        with contextlib.suppress(OSError):  # a full disk: told by the housekeeping, and no reason to stop
            write_private(self.settings.run_dir / STATE_FILE, text)
            self._state_text = text

    def _tell_scrapers(self) -> None:
        ports = {process.spec.name: process.spec.metrics_port() for process in self.processes}
        with contextlib.suppress(OSError):  # a full disk: as above
            self._targets.update({SUPERVISOR: self._metrics_port, **ports})

    @property
    def all_ready(self) -> bool:
        return all(process.state in (State.READY, State.DONE) for process in self.processes)

    @property
    def once_ready(self) -> bool:
        """Whether the start is over: every process has been ready at some time."""
        return all(process.was_ready.is_set() for process in self.processes)


def _row(process: ManagedProcess) -> dict[str, Any]:
    return {
        "name": process.spec.name,
        "state": process.state.value,
        "pid": process.pid,
        "port": process.spec.port() if process.pid is not None else None,
        "restarts": process.restarts,
        "last_end": process.last_end,
        "detail": process.detail,
    }


def _first(group: BaseExceptionGroup[StartFailed]) -> StartFailed:
    inner = group.exceptions[0]
    return inner if isinstance(inner, StartFailed) else _first(inner)
