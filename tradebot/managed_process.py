"""One child process: start it, notice its end, bring it back, stop it. The supervisor owns one of these per process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from enum import StrEnum
from pathlib import Path

from runtime.backoff import Backoff
from runtime.clock import monotonic_s
from runtime.settings import Settings
from tradebot.bundled_server import ServerError
from tradebot.exit_codes import ExitCode
from tradebot.ports import NoFreePort
from tradebot.process_lock import ProcessLock
from tradebot.process_plan import ProcessSpec
from tradebot.story import Story

STARTING_POLL_S = 0.05
RUNNING_POLL_S = 2.0
LOCK_WAIT_S = 10.0
KILLED_WAIT_S = 10.0


class StartFailed(Exception):
    """The stack cannot start; the text says why, `code` is the exit code."""

    def __init__(self, text: str, code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(text)
        self.code = code


class State(StrEnum):
    WAITING = "waiting"  # for others to become ready
    STARTING = "starting"
    READY = "ready"
    NOT_READY = "not ready"  # was ready before
    RESTARTING = "restarting"  # ended, waits before the next try
    STOPPING = "stopping"
    STOPPED = "stopped"
    DONE = "done"  # work that ends, ended well


class ManagedProcess:
    """Keeps one process running until told to stop. It lives in a session of its own, so a terminal's Ctrl-C does not reach it."""

    def __init__(self, spec: ProcessSpec, settings: Settings, story: Story) -> None:
        self.spec = spec
        self.state = State.WAITING
        self.restarts = 0
        self.detail = ""
        self.last_end = ""  # why it ended the last time that nobody asked for it
        self.was_ready = asyncio.Event()
        self._settings = settings
        self._story = story
        self._lock = ProcessLock(settings.run_dir, spec.name)
        self._process: subprocess.Popen[bytes] | None = None
        self._exited = asyncio.Event()
        self._stopping = asyncio.Event()
        self._starting = asyncio.Lock()
        self._started_s = 0.0
        limits = settings.supervisor
        self._backoff = Backoff(limits.restart_first_s, limits.restart_cap_s)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and not self._exited.is_set() else None

    @property
    def log_file(self) -> Path:
        """Where everything that the process prints goes."""
        return self._settings.home / "logs" / f"{self.spec.name}.out"

    async def keep(self) -> None:
        """Run the process until `stop()`, again and again; raises StartFailed when a first start is hopeless."""
        while not self._stopping.is_set():
            try:
                async with self._starting:
                    await self._start()
                code = await self._watch()
            except (ServerError, NoFreePort, OSError) as error:
                if not self.was_ready.is_set():
                    raise StartFailed(str(error)) from error
                why = str(error)
            else:
                if self._stopping.is_set():
                    return
                if self.spec.once and code == 0:
                    self._become(State.DONE)
                    self.was_ready.set()
                    return
                why = self._explain(code)
                if code == ExitCode.CONFIG and not self.was_ready.is_set():
                    raise StartFailed(f"{self.spec.name} refuses its configuration: {self._last_words()}", ExitCode.CONFIG)
            await self._pause(why)

    async def _pause(self, why: str) -> None:
        """Tell that the process ended, and wait before the next try."""
        self.restarts += 1
        self.last_end = why
        wait_s = self._backoff.next_s()
        self._become(State.RESTARTING, why)
        self._story.tell(f"{self.spec.name} {why}; starting it again in {wait_s:.1f} s ({self.log_file.name})", warning=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), wait_s)

    async def _start(self) -> None:
        self._become(State.STARTING)
        self._started_s = monotonic_s()
        lock = await self._claim()
        try:
            await asyncio.to_thread(self.spec.prepare)
            self._process = self._spawn(lock)
            self._exited.clear()
            self._lock.write(lock, self._process.pid)
        finally:
            os.close(lock)  # from now on the child alone holds it
        self.reap()

    def _spawn(self, lock: int) -> subprocess.Popen[bytes]:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(self.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as output:
            return subprocess.Popen(  # noqa: S603 our own commands
                self.spec.argv(),
                env=dict(self.spec.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
            )

    async def _claim(self) -> int:
        """The lock, once the helpers of the last incarnation are gone (PostgreSQL's take a moment to notice)."""
        deadline_s = monotonic_s() + LOCK_WAIT_S
        while (lock := self._lock.claim()) is None:
            if monotonic_s() > deadline_s:
                holder = self._lock.holder()
                raise OSError(
                    f"{self.spec.name}: process {holder.pid if holder else 'unknown'} still works on {self._settings.home}"
                )
            await asyncio.sleep(STARTING_POLL_S)
        return lock

    async def _watch(self) -> int:
        """Follow readiness until the process ends; its exit code (negative: the signal)."""
        assert self._process is not None
        while not self._exited.is_set():
            ready = not self.spec.once and await self.spec.ready(self._process.pid)
            self._note_readiness(ready, monotonic_s() - self._started_s)
            poll_s = STARTING_POLL_S if self.state is State.STARTING else RUNNING_POLL_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._exited.wait(), poll_s)
        return self._process.returncode

    def _note_readiness(self, ready: bool, after_s: float) -> None:
        if self._exited.is_set() or self._stopping.is_set():
            return
        if ready and self.state is not State.READY:
            was, port = self.state, self.spec.port()
            self._become(State.READY)
            how = f" ({after_s:.1f} s)" if was is State.STARTING else " again"
            wanted = self.spec.wanted_port
            taken = f" because {wanted} is taken" if port and wanted and port != wanted else ""
            self._story.tell(f"{self.spec.name} is ready" + (f" on port {port}{taken}" if port else "") + how)
            self.was_ready.set()
        elif not ready and self.state is State.READY:
            self._become(State.NOT_READY)
            self._story.tell(f"{self.spec.name} runs but is not ready", warning=True)

    def reap(self) -> None:
        """Notice the end of the process, and end the helpers it left behind. Called whenever a child of ours ended."""
        process = self._process
        if process is None or self._exited.is_set():
            return
        # The zombie still holds its number, so the group of that number is its helpers and nobody else.
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._exited.set()

    async def stop(self, grace_s: float, hurry: asyncio.Event, hurry_s: float) -> None:
        """Ask the process to finish, wait `grace_s` (only `hurry_s` more once `hurry` is set), then end it."""
        self._stopping.set()
        async with self._starting:  # a start under way is waited for: its process is then there to be ended
            pass
        if self.pid is None:
            self._become(State.DONE if self.state is State.DONE else State.STOPPED)
            self.spec.retire()
            return
        self._become(State.STOPPING)
        self._signal(self.spec.stop_signal)
        if not await self._ended_within(grace_s, hurry, hurry_s):
            self._story.tell(f"{self.spec.name} did not stop in time: killed", warning=True)
            self._signal(signal.SIGKILL, group=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._exited.wait(), KILLED_WAIT_S)
        self._become(State.STOPPED)
        self.spec.retire()

    async def _ended_within(self, grace_s: float, hurry: asyncio.Event, hurry_s: float) -> bool:
        exited = asyncio.ensure_future(self._exited.wait())
        hurried = asyncio.ensure_future(hurry.wait())
        try:
            await asyncio.wait({exited, hurried}, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
            if hurried.done() and not exited.done():
                await asyncio.wait({exited}, timeout=min(grace_s, hurry_s))
        finally:
            for waiting in (exited, hurried):
                waiting.cancel()
        return self._exited.is_set()

    def _signal(self, number: signal.Signals, *, group: bool = False) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.pid, number)

    def _become(self, state: State, detail: str = "") -> None:
        self.state, self.detail = state, detail

    def _explain(self, code: int) -> str:
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        said = self._last_words()
        return f"ended with exit code {code}" + (f": {said}" if code and said else "")

    def _last_words(self) -> str:
        """The last line that the process printed."""
        try:
            with self.log_file.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 2000))
                lines = file.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[-300:]
