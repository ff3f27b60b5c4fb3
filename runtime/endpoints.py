"""Where the running parts of one home directory are: addresses, ports and pids, as files in `<home>/run`."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.secrets import SecretError, read_secret_file
from runtime.settings import ServerSettings, Settings


class NotRunning(Exception):
    """The thing asked for is not running; the text says how to start it."""


class NoAddress(NotRunning):
    """The file that should hold an address cannot be used; the text names it and says why."""


def bus_url(settings: Settings) -> str:
    """Redis URL of the bus: the configured one, or that of the bundled server; raises NotRunning."""
    return _server_url(settings.bus, settings.run_dir / "bus.url", "bus", "TRADEBOT__BUS__URL")


def postgres_url(settings: Settings) -> str:
    """PostgreSQL URL of the history: the configured one, or that of the bundled server; raises NotRunning."""
    return _server_url(settings.postgres, settings.run_dir / "postgres.url", "database", "TRADEBOT__POSTGRES__URL")


def simulator_url(settings: Settings, exchange: str) -> str:
    """Base URL of this home's simulator of an exchange, never that of another stack; raises NotRunning."""
    variable = f"TRADEBOT__EXCHANGES__{exchange.upper()}__REST_URL"
    return _read_url(settings.run_dir / f"simulator-{exchange}.url", f"simulator of {exchange}", f"{variable} and its two siblings")


def service_port(settings: Settings, name: str, default: int) -> int:
    """The port that a service in fact listens on, or `default` when it has not said."""
    try:
        return int((settings.run_dir / f"{name}.port").read_text())
    except (FileNotFoundError, ValueError):
        return default


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def _server_url(server: ServerSettings, bundled: Path, what: str, variable: str) -> str:
    """The address as configured; a file is read at each call."""
    if server.url:
        return server.url.get_secret_value()
    if server.url_file is None:
        return _read_url(bundled, what, variable)
    try:
        url = read_secret_file(server.url_file, f"{variable}_FILE")
    except SecretError as error:
        raise NoAddress(str(error)) from None
    if not url:
        raise NoAddress(f"{variable}_FILE: {server.url_file} is empty; it should hold the URL of the {what}")
    return url


def _read_url(path: Path, what: str, variable: str) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise NotRunning(f"the {what} is not running: start it with `tradebot up`, or set {variable} to your own") from None
