"""Which bundled servers the settings ask for."""

from __future__ import annotations

from collections.abc import Container

from runtime.settings import Settings
from tradebot.bundled_server import BundledServer
from tradebot.server_postgres import BundledPostgres
from tradebot.server_valkey import BundledValkey


def bundled_servers(settings: Settings, avoid_ports: Container[int] = ()) -> list[BundledServer]:
    """The servers to run beside the services: those for which no URL is configured."""
    servers: list[BundledServer] = []
    if settings.bus.bundled:
        servers.append(BundledValkey(settings.home, settings.bus, avoid_ports))
    if settings.postgres.bundled:
        servers.append(BundledPostgres(settings.home, settings.postgres.port, avoid_ports))
    return servers
