"""Telling whether the bus still has what it once had: a random value that lives and dies with its data."""

from __future__ import annotations

import secrets

from bus.connection import Connection
from connectors.lease import OpenBus


class BusEpoch:
    """The value under `MODE:bus-epoch`, made by whoever looks first. Another value means that the bus lost its data."""

    def __init__(self, open_bus: OpenBus, mode: str) -> None:
        self._open_bus = open_bus
        self._key = f"{mode}:bus-epoch"
        self._bus: Connection | None = None

    async def read(self) -> str:
        """The present value; raises BusError."""
        if self._bus is None or self._bus.closed.done():
            self._bus = await self._open_bus()
        fresh = secrets.token_hex(8)
        present: bytes | None = await self._bus.command("SET", self._key, fresh, "NX", "GET")
        return fresh if present is None else present.decode()

    def close(self) -> None:
        if self._bus is not None:
            self._bus.close()
