"""What the simulator asks of a venue: an address space on one HTTP server, and the work behind it.

A venue is a module or package `simulator/venues/<exchange>` with a class `VENUE`; nothing else names it.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from aiohttp import web

from common_models.instruments import Symbol
from runtime.service import ServiceError
from runtime.settings import ExchangeSettings
from simulator.exchange import SimulatedExchange
from simulator.faults import Faults
from simulator.recording import Frame, FrameMeaning


class Venue(Protocol):
    """One venue's wire around a simulated exchange."""

    def __init__(self, exchange: SimulatedExchange, settings: ExchangeSettings, faults: Faults) -> None: ...

    @staticmethod
    def native_symbol(symbol: Symbol) -> str:
        """The venue's own spelling."""

    @staticmethod
    def read_frame(frame: Frame) -> FrameMeaning:
        """What a recorded frame of this venue says; a frame that says nothing has an empty meaning."""

    def add_routes(self, app: web.Application) -> None:
        """Serve the venue's addresses on `app`."""

    async def run(self) -> None:
        """Publish on a clock, for ever."""

    async def play(self, frame: Frame, meaning: FrameMeaning, shift_ms: int) -> None:
        """Send a recorded frame to everyone who listens, its times moved by `shift_ms`; waits for slow clients."""

    async def listened(self) -> None:
        """Wait until a client has subscribed to something."""

    def will_play(self, streams: set[str]) -> None:
        """These streams come from a recording and are not to be generated."""

    def announce_shutdown(self) -> None:
        """Tell all clients that the server goes."""


def load_venue(exchange: str) -> type[Venue]:
    """The venue of that name; raises ServiceError when there is none."""
    try:
        module = importlib.import_module(f"simulator.venues.{exchange}")
    except ModuleNotFoundError as error:
        if error.name != f"simulator.venues.{exchange}":
            raise
        raise ServiceError(f"there is no simulator for {exchange!r}; see simulator/venues/") from None
    return cast("type[Venue]", module.VENUE)
