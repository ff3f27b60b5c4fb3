"""Simulators for tests: in this process, or as real processes that may be killed; and a small signing client."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
from yarl import URL

from runtime.settings import ExchangeSettings, Settings, SimulatorSettings
from simulator.service import Simulator, running

ROOT = Path(__file__).resolve().parents[2]
KEY = SECRET = "simulator"
Reply = tuple[int, Any, Mapping[str, str]]


def settings(symbols: tuple[str, ...] = ("BTC/USDT",), **simulator: Any) -> ExchangeSettings:
    """An exchange whose simulator listens on a free port."""
    return ExchangeSettings(port=0, symbols=symbols, simulator=SimulatorSettings(**{"history_bars": 50, **simulator}))


@contextlib.asynccontextmanager
async def simulator(state_dir: Path, configured: ExchangeSettings | None = None, *, alive: bool = True) -> AsyncIterator[Simulator]:
    """A simulator in this process; `alive` False lets its synthetic market stand still."""
    async with running("binance", configured or settings(), state_dir) as made:
        if not alive:
            made.agents = []
        stop = asyncio.Event()
        life = asyncio.create_task(made.until(stop))
        try:
            yield made
        finally:
            stop.set()
            await life


class SimulatorProcess:
    """`simulator.service.run` in a process of its own, with its state in `home`."""

    def __init__(self, home: Path, configured: ExchangeSettings) -> None:
        self._home = home
        self._settings = Settings(home=home, exchanges={"binance": configured})
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        """Start and wait until it listens."""
        address = self._home / "run" / "simulator-binance.url"
        address.unlink(missing_ok=True)
        code = (
            "import sys\n"
            "from runtime.settings import Settings\n"
            "from simulator.service import run\n"
            "sys.exit(run(Settings.model_validate_json(sys.argv[1]), 'binance'))\n"
        )
        command = [sys.executable, "-c", code, self._settings.model_dump_json()]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 20
        while not address.exists():
            assert self._process.poll() is None, f"the simulator ended with {self._process.returncode}"
            assert time.monotonic() < deadline_s, "the simulator does not listen"
            time.sleep(0.02)
        self.url = address.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            os.kill(self._process.pid, number)
        return self._process.wait(10)

    @property
    def ledger(self) -> Path:
        return self._home / "simulator" / "binance" / "ledger.log"


class Client:
    """Plain HTTP and WebSocket API calls, signed by hand."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url
        self.ws_url = url.replace("http", "ws", 1)

    async def get(self, path: str, **params: Any) -> Reply:
        return await self.request("GET", path, urlencode(params))

    async def signed(self, method: str, path: str, key: str = KEY, secret: str = SECRET, **params: Any) -> Reply:
        return await self.request(method, path, signed_query(params, secret), key)

    async def request(self, method: str, path: str, query: str = "", key: str | None = None) -> Reply:
        """One request with the query exactly as given."""
        headers = {"X-MBX-APIKEY": key} if key is not None else {}
        url = f"{self.url}{path}?{query}"
        async with self._session.request(method, URL(url, encoded=True), headers=headers) as response:
            body = await response.read()
            return response.status, json.loads(body) if body else None, response.headers

    @contextlib.asynccontextmanager
    async def socket(self, path: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        async with self._session.ws_connect(self.ws_url + path, autoping=True) as socket:
            yield socket


def signed_query(params: Mapping[str, Any], secret: str = SECRET) -> str:
    query = urlencode({"timestamp": int(time.time() * 1000), **params})
    return f"{query}&signature={hmac.new(secret.encode(), query.encode(), hashlib.sha256).hexdigest()}"


def ws_request(method: str, request_id: object = 1, *, sign: bool = True, **params: Any) -> str:
    """A request frame of the WebSocket API."""
    if sign:
        params = {"apiKey": KEY, "timestamp": int(time.time() * 1000), **params}
        payload = "&".join(f"{name}={params[name]}" for name in sorted(params))
        params["signature"] = hmac.new(SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest()
    return json.dumps({"id": request_id, "method": method, "params": params})


@contextlib.asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(session, url)


async def frame(socket: aiohttp.ClientWebSocketResponse, timeout_s: float = 5.0) -> Any:
    """The next text frame, decoded."""
    message = await socket.receive(timeout=timeout_s)
    assert message.type is aiohttp.WSMsgType.TEXT, message
    return msgspec.json.decode(message.data)
