"""The last values of each symbol as Redis hashes with a time to live, for programs that want a price and no stream.

Key `PREFIX:BASE` for the exchange's configured quote and `PREFIX:BASE-QUOTE` for the rest (`binance_spot:BTC`,
`binance_spot:ETH-BTC`), with the mode in front in every mode but live.
"""

from __future__ import annotations

import asyncio

import structlog

from bus.connection import Connection
from bus.errors import BusError
from common_models import DayStats, Symbol
from common_models.timestamps import ns_to_rfc3339
from runtime.backoff import Backoff
from runtime.settings import Mode

log = structlog.get_logger(__name__)

TTL_S = 60
WRITE_EVERY_S = 1.0


class LastValues:
    """Takes day statistics as they come and writes those that changed once a second."""

    def __init__(self, bus_url: str, mode: Mode, prefix: str, quote: str) -> None:
        self._url = bus_url
        self._prefix = prefix if mode is Mode.LIVE else f"{mode.value}:{prefix}"
        self._quote = quote
        self._changed: dict[str, tuple[DayStats[str], str]] = {}  # one entry a symbol: bounded by the subscriptions

    def note(self, stats: DayStats[str], native_symbol: str) -> None:
        """Remember the newest values of a symbol; never waits."""
        self._changed[stats.symbol] = (stats, native_symbol)

    async def run(self) -> None:
        """Write for ever; a bus that is away costs freshness only."""
        backoff = Backoff()
        while True:
            try:
                connection = await Connection.open(self._url, name="last-values")
                try:
                    await self._write_on(connection)
                finally:
                    connection.close()
            except BusError as error:
                log.warning("last_values.waiting", reason=str(error))
                await asyncio.sleep(backoff.next_s())

    async def _write_on(self, connection: Connection) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            changed, self._changed = self._changed, {}
            for stats, native in changed.values():
                key = self.key(stats.symbol)
                written = connection.command("HSET", key, *fields(stats, native))
                kept = connection.command("EXPIRE", key, TTL_S)  # in the same write
                await asyncio.gather(written, kept)

    def key(self, symbol: str) -> str:
        """The hash of a symbol."""
        pair = Symbol.parse(symbol)
        return f"{self._prefix}:{pair.base}" if pair.quote == self._quote else f"{self._prefix}:{pair.base}-{pair.quote}"


def fields(stats: DayStats[str], native_symbol: str) -> tuple[str, ...]:
    """Field names and values in turn. `timestamp` is RFC 3339, percent is percent."""
    return (
        "ltp", stats.last,
        "timestamp", ns_to_rfc3339(stats.ts_event_ns or stats.ts_recv_ns),
        "original_symbol", native_symbol,
        "volume_24h", stats.volume,
        "high_24h", stats.high,
        "low_24h", stats.low,
        "price_change_percent", stats.change_percent,
    )  # fmt: skip
