"""The connector's market-data half alone, wired as in the connector: `python -m bench.feed_process VENUE_PORT TRADES SYMBOL...`.

The bus's URL comes in the variable BUS_URL. Ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import uvloop

from bus.publisher import StreamPublisher
from connectors.exchanges.binance.error_codes import read_error
from connectors.market_data import run_market_data
from connectors.rate_budget import RateBudget
from connectors.registry import load_exchange
from connectors.rest import RestClient
from runtime.health import Health
from runtime.settings import ExchangeSettings, Mode


async def main() -> None:
    venue_port, trades, *symbols = sys.argv[1:]
    bus_url = os.environ["BUS_URL"]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = ExchangeSettings(port=0, symbols=tuple(symbols), trades=trades, timeframes=(), stale_after_s=3600)
    publisher = StreamPublisher(bus_url, "bench-feed")
    await publisher.start()
    async with RestClient(f"http://127.0.0.1:{venue_port}", RateBudget(1_000_000), read_error=read_error) as rest:
        await run_market_data(
            load_exchange("binance"),
            settings,
            Mode.SIMULATION,
            bus_url,
            publisher,
            url=f"ws://127.0.0.1:{venue_port}/stream",
            rest=rest,
            instruments={},
            health=Health("bench"),
            stop=stop,
        )
    await publisher.close()


if __name__ == "__main__":
    uvloop.run(main())
