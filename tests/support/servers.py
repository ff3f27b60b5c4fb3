"""Real servers for tests: the bundled Valkey and PostgreSQL, which a test may kill and bring back."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from runtime.settings import BusSettings
from tradebot.bundled_server import BundledServer
from tradebot.server_postgres import BundledPostgres
from tradebot.server_valkey import BundledValkey

READY_TIMEOUT_S = 30.0
EPHEMERAL = 0


class ServerProcess:
    """One running server. `url` stays the same over `kill()` and `start()`, and so does its data."""

    def __init__(self, server: BundledServer) -> None:
        self.server = server
        self.process: subprocess.Popen[bytes] | None = None
        self._log = server.home / f"{server.name}.out"

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.server.name} is not running"
        return self.process.pid

    def start(self) -> None:
        """Start the server and wait until it takes clients."""
        self.server.prepare()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.server.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while not self.server.ready(self.pid):
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                raise AssertionError(f"{self.server.name} did not become ready: {self._log.read_text()[-2000:]}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End the server and its helpers as a crash does: no goodbye to clients, nothing flushed."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Shut the server down in order."""
        self._end(self.server.stop_signal)

    def freeze(self) -> None:
        """Stop the server's main process as a starved machine does: connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        self.kill()
        self.start()

    def _end(self, sent: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            if sent is signal.SIGKILL:
                os.killpg(self.process.pid, sent)
            else:
                os.kill(self.process.pid, sent)
            try:
                self.process.wait(timeout=READY_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.process = None


def valkey(home: Path, fsync: str = "everysec") -> ServerProcess:
    """A Valkey with its data below `home`, not started yet."""
    return ServerProcess(BundledValkey(home, BusSettings(port=EPHEMERAL, fsync=fsync)))


def postgres(home: Path, durable: bool = False) -> ServerProcess:
    """A PostgreSQL with its data below `home`, not started yet.

    What is committed survives a killed server either way; `durable` makes it survive the machine's crash too, as users have it.
    """
    options = {} if durable else {"fsync": "off", "full_page_writes": "off"}
    return ServerProcess(BundledPostgres(home, EPHEMERAL, options=options))
