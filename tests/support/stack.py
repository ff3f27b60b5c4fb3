"""The whole system as a person starts it, `tradebot up` in a home of its own, with processes that a test may kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from runtime.endpoints import postgres_url
from runtime.settings import Settings
from runtime.settings_loader import load_settings
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0
STOP_S = 40.0


class Stack:
    """One home and at most one running supervisor. Every port is ephemeral."""

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.environment = {
            "TRADEBOT_HOME": str(home),
            "TRADEBOT__BUS__PORT": "0",
            "TRADEBOT__POSTGRES__PORT": "0",
            "TRADEBOT__BOT__PORT": "0",
            "TRADEBOT__RECORDER__PORT": "0",
            "TRADEBOT__ALERTS__PORT": "0",
            "TRADEBOT__EXCHANGES__BINANCE__PORT": "0",
            **(environment or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.output = home / "up.out"

    @property
    def settings(self) -> Settings:
        return load_settings(ROOT, environ=self.environment)

    async def start(self) -> None:
        """`tradebot up`, until every process is ready."""
        self._spawn()
        await self.ready()

    def _spawn(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tradebot", "up"],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def ready(self, timeout_s: float = START_S) -> None:
        """Wait until the status names every process as ready."""

        async def all_ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"tradebot up ended: {self.output.read_text()[-3000:]}"
            states = [entry["state"] for entry in (await self.status()).values()]
            return len(states) > 5 and all(state in ("ready", "done") for state in states)

        try:
            await eventually(all_ready, timeout_s, "every process ready")
        except AssertionError as error:
            raise AssertionError(f"{error}; {await self.status()}; {self.output.read_text()[-2000:]}") from error

    async def status(self) -> dict[str, dict[str, Any]]:
        """`tradebot status --json`, by process name."""
        _, text = await self.run("status", "--json")
        answer = json.loads(text or "{}")
        return {entry["process"]: entry for entry in (answer if isinstance(answer, list) else answer.get("processes", []))}

    async def run(self, *arguments: str) -> tuple[int, str]:
        """One tradebot command; returns exit code and standard output."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tradebot",
            *arguments,
            cwd=ROOT,
            env={**os.environ, **self.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    async def pid(self, name: str) -> int:
        return int((await self.status())[name]["pid"])

    async def kill(self, name: str) -> None:
        """SIGKILL, and wait until the supervisor has the process back under another pid."""
        before = await self.pid(name)
        os.kill(before, signal.SIGKILL)

        async def back() -> bool:
            entry = (await self.status()).get(name, {})
            return entry.get("state") == "ready" and int(entry.get("pid") or before) != before

        await eventually(back, START_S, f"{name} back after SIGKILL")

    def kill_supervisor(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    async def stop(self) -> int:
        """Ctrl-C; returns the exit code of `tradebot up`."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return await asyncio.to_thread(self.process.wait, STOP_S)

    def left_over(self) -> list[str]:
        """Command lines of processes that still belong to this home."""
        found = []
        for process in psutil.process_iter():
            try:
                if str(self.home) in " ".join(process.cmdline()) or process.environ().get("TRADEBOT_HOME") == str(self.home):
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found

    async def connect(self) -> asyncpg.Connection[Any]:
        """A connection to the history, in the schema of the mode."""
        settings = self.settings
        return await asyncpg.connect(postgres_url(settings), server_settings={"search_path": settings.mode.value})

    async def end(self) -> None:
        """Whatever happened, leave no process behind."""
        if self.process is None:
            return
        if self.process.poll() is None:
            try:
                await self.stop()
            except subprocess.TimeoutExpired:
                self.kill_supervisor()
        await self.run("down")
