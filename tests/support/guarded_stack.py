"""The services as containers run them: each a process with its own user of the bus and role of the database, addresses in files."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from postgres.roles import ROLES
from runtime import http_probe
from tests.support.guarded import GuardedBus, free_port
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
SERVICES: Mapping[str, tuple[str, ...]] = {
    "simulator-binance": ("simulator", "binance"),
    "connector-binance": ("connector", "binance"),
    "recorder": ("recorder",),
    "bot": ("bot",),
    "alerts": ("alerts",),
    "traces": ("traces",),
}
USES_DATABASE = ("recorder", "bot", "alerts")


class GuardedStack:
    """`homes` holds a home directory for each service, as volumes do; `secrets` the files with their addresses."""

    def __init__(self, folder: Path, bus: GuardedBus, database_url: str, environment: Mapping[str, str]) -> None:
        self.homes = folder / "homes"
        self._secrets = folder / "secrets"
        self._bus = bus
        self._database_url = database_url
        self._environment = environment
        self._venue_port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._secrets.mkdir()
        for role in ROLES:
            self._write(f"postgres_password_{role.name}", f"password-of-{role.name}-{os.getpid()}")
            self._write(f"postgres_url_{role.name}", self.database_url(role.name))
        self._write("postgres_url_admin", database_url)
        for user in bus.passwords:
            self._write(f"bus_url_{user}", bus.url(user))

    def database_url(self, role: str) -> str:
        parts = urlsplit(self._database_url)
        return parts._replace(netloc=f"tradebot_{role}:password-of-{role}-{os.getpid()}@{parts.netloc.rpartition('@')[2]}").geturl()

    async def prepare(self) -> None:
        """Roles by the administrator, tables by the owner."""
        for role, words in (("admin", ("db", "roles", "--passwords", str(self._secrets))), ("owner", ("db", "migrate"))):
            code, text = await self.run(*words, role=role)
            assert code == 0, text

    async def start(self) -> None:
        """Start every service and wait until all are ready."""
        for name in SERVICES:
            self._spawn(name)
        for name in SERVICES:
            await self._ready(name)

    def kill(self, *, but: str = "") -> None:
        """SIGKILL to all services."""
        for name, process in list(self._processes.items()):
            if name != but:
                process.kill()
                process.wait()
                del self._processes[name]

    async def run(self, *words: str, user: str = "operator", role: str = "operator") -> tuple[int, str]:
        """One command with this user of the bus and this role of the database; its exit code and everything it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tradebot", *words, cwd=ROOT, env=self._env("cli", user, role), stdout=-1, stderr=-2
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    def printed(self) -> str:
        """Everything that the services logged."""
        return "\n".join(path.read_text(errors="replace") for path in self.homes.glob("*/printed"))

    def _spawn(self, name: str) -> None:
        home = self.homes / name
        home.mkdir(parents=True, exist_ok=True)
        with (home / "printed").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "tradebot", *SERVICES[name]],
                cwd=ROOT,
                env=self._env(name, name, name if name in USES_DATABASE else ""),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def _ready(self, name: str) -> None:
        port_file = self.homes / name / "run" / f"{name}.port"

        async def ready() -> bool:
            assert self._processes[name].poll() is None, f"{name} ended: {(self.homes / name / 'printed').read_text()[-3000:]}"
            try:
                status, _ = await http_probe.get("127.0.0.1", int(port_file.read_text()), "/ready", 2.0)
            except (OSError, ValueError):
                return False
            return status == 200

        await eventually(ready, 60, f"{name} ready")

    def _env(self, name: str, user: str, role: str) -> dict[str, str]:
        variables = {
            **{key: value for key, value in os.environ.items() if not key.startswith("TRADEBOT")},
            "TRADEBOT_HOME": str(self.homes / name),
            "TRADEBOT_TRACES_PORT": "0",
            "TRADEBOT__EXCHANGES__BINANCE__SIMULATOR__PORT": str(self._venue_port),
            **{f"TRADEBOT__{section}__PORT": "0" for section in ("BOT", "RECORDER", "ALERTS", "EXCHANGES__BINANCE")},
            **self._environment,
        }
        if user in self._bus.passwords:
            variables["TRADEBOT__BUS__URL_FILE"] = str(self._secrets / f"bus_url_{user}")
        if role:
            variables["TRADEBOT__POSTGRES__URL_FILE"] = str(self._secrets / f"postgres_url_{role}")
        if name.startswith("connector"):
            venue = f"127.0.0.1:{self._venue_port}"
            variables["TRADEBOT__EXCHANGES__BINANCE__REST_URL"] = f"http://{venue}"
            variables["TRADEBOT__EXCHANGES__BINANCE__WS_URL"] = f"ws://{venue}/stream"
            variables["TRADEBOT__EXCHANGES__BINANCE__WS_API_URL"] = f"ws://{venue}/ws-api/v3"
        return variables

    def _write(self, name: str, text: str) -> None:
        path = self._secrets / name
        path.write_text(f"{text}\n")
        path.chmod(0o600)


@asynccontextmanager
async def guarded_stack(
    folder: Path, bus: GuardedBus, database_url: str, environment: Mapping[str, str]
) -> AsyncIterator[GuardedStack]:
    """A prepared and started stack, and nothing left of it afterwards."""
    stack = GuardedStack(folder, bus, database_url, environment)
    try:
        await stack.prepare()
        await stack.start()
        yield stack
    finally:
        stack.kill()
