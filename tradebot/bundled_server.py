"""What the bundled Valkey and PostgreSQL have in common."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from pathlib import Path
from typing import ClassVar

from runtime.endpoints import write_private
from tradebot.ports import free_port
from tradebot.private_files import private_directory

HOST = "127.0.0.1"


class ServerError(Exception):
    """A bundled server cannot be used on this machine; the text says why and what to do instead."""


class BundledServer(ABC):
    """A server that lives below `home` and listens on loopback only.

    `prepare()` may be repeated: it makes what is missing (secret, data directory), chooses the port once, and publishes port
    and URL in `<home>/run`. Its caller then starts `argv` in a session of its own and asks `ready(pid)`.
    """

    name: ClassVar[str]
    url_file: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, home: Path, wanted_port: int, avoid_ports: Container[int] = ()) -> None:
        self.home = home.absolute()
        self.directory = self.home / self.name
        self.wanted_port = wanted_port
        self._avoid_ports = avoid_ports
        self._port: int | None = None

    @property
    def port(self) -> int:
        """Where it listens: chosen at the first use and kept over restarts, because clients know it by then."""
        if self._port is None:
            self._port = free_port(HOST, self.wanted_port, self._avoid_ports)
        return self._port

    @property
    @abstractmethod
    def url(self) -> str:
        """The address with user and password."""

    @property
    @abstractmethod
    def argv(self) -> Sequence[str]:
        """The command that runs the server in the foreground, its own pid being the one to signal; no secret in it."""

    @abstractmethod
    def ready(self, pid: int) -> bool:
        """Whether the process `pid` takes clients now. May block for half a second."""

    @abstractmethod
    def _build(self) -> None:
        """Make secrets, data directory and configuration as far as they are missing or old; raises ServerError."""

    def prepare(self) -> None:
        """Make everything that the server needs before it starts; raises ServerError or NoFreePort."""
        private_directory(self.directory)
        self._build()
        write_private(self.home / "run" / f"{self.name}.port", f"{self.port}\n")
        write_private(self.home / "run" / self.url_file, f"{self.url}\n")

    def retire(self) -> None:
        """Take back port and URL: nobody listens there any more."""
        for name in (f"{self.name}.port", self.url_file):
            (self.home / "run" / name).unlink(missing_ok=True)
