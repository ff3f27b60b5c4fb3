"""Runs the probes of the rules, each at its own pace, over one connection to the bus that is opened anew when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from alerts.report import Report
from alerts.rules.probes import Probe
from bus.connection import Connection
from bus.errors import AuthRefused, BusError
from postgres.intake import pause

log = structlog.get_logger(__name__)


class Probing:
    """`find_url` is asked on each opening, since a bundled server may come back on another port."""

    def __init__(
        self, find_url: Callable[[], str], take: Callable[[Iterable[Report]], None], failed: Callable[[str, Exception], None]
    ) -> None:
        self._find_url = find_url
        self._take = take
        self._failed = failed
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()

    async def run(self, name: str, probe: Probe, stop: asyncio.Event) -> None:
        """Look again and again until `stop`; raises AuthRefused when the bus does not let us in."""
        while not stop.is_set():
            try:
                reports = await probe.look(self._open)
                if reports:
                    self._take(reports)
            except AuthRefused:
                raise
            except (BusError, OSError) as error:
                log.info("alerts.probe_waits", rule=name, reason=str(error))
            except Exception as error:  # noqa: BLE001 the boundary to one rule: its mistake must not end the others
                self._failed(name, error)
            await pause(probe.every_s, stop)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def _open(self) -> Connection:
        async with self._opening:
            if self._connection is None or self._connection.closed.done():
                self._connection = await Connection.open(self._find_url(), name="alerts-probes")
            return self._connection
