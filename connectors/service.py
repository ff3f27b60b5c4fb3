"""The connector process: one exchange account's market data and orders, wired to the bus. Stopping reads top to bottom."""

from __future__ import annotations

import asyncio

import structlog
from pydantic import SecretStr

from bus.connection import Connection
from bus.consumer import StreamConsumer
from bus.publisher import StreamPublisher
from bus.reader import TailReader
from bus.streams import Streams
from common_models import Instrument
from connectors.account import AccountContext, run_account
from connectors.exchange import Credentials, Exchange, VenueUrls
from connectors.market_data import run_market_data
from connectors.registry import UnknownExchange, load_exchange
from runtime.endpoints import bus_url, simulator_url
from runtime.service import Service, ServiceError, run_service
from runtime.settings import ExchangeSettings, Mode, Settings

log = structlog.get_logger(__name__)

SIMULATOR = Credentials(SecretStr("simulator"), SecretStr("simulator"))
CLOSE_GRACE_S = 5.0


def run(settings: Settings, name: str) -> int:
    """Run the connector of exchange `name` until it is told to stop; returns the exit code of the process."""
    exchange_settings = settings.exchanges.get(name)

    async def main(service: Service) -> None:
        if exchange_settings is None:
            raise ServiceError(f"no exchange {name!r} in the configuration: add it to config/exchanges.yaml")
        try:
            exchange = load_exchange(name)
        except UnknownExchange as error:
            raise ServiceError(str(error)) from error
        await serve(service, exchange, exchange_settings)

    return run_service(f"connector-{name}", settings, exchange_settings.port if exchange_settings else 0, main)


async def serve(service: Service, exchange: Exchange, exchange_settings: ExchangeSettings) -> None:
    """Connect the exchange with the bus until stopped: no new orders first, then the account, the market data, the publisher."""
    settings, url = service.settings, bus_url(service.settings)
    urls, credentials = _venue(settings, exchange, exchange_settings)
    streams = Streams(settings.mode.value, settings.bus.market_entries)
    instruments: dict[str, Instrument] = {}
    venue = exchange.connect(urls, exchange_settings, credentials, lambda: instruments)
    publisher = StreamPublisher(url, service.name)
    await publisher.start()
    try:
        async with venue.rest, asyncio.TaskGroup() as tasks:
            stop_feed = asyncio.Event()
            tasks.create_task(
                run_market_data(
                    exchange,
                    exchange_settings,
                    settings.mode,
                    url,
                    publisher,
                    url=urls.market,
                    rest=venue.rest,
                    instruments=instruments,
                    health=service.health,
                    stop=stop_feed,
                    clock_offset_ns=lambda: venue.entry.clock.offset_ns,
                ),
                name="market-data",
            )
            commands = streams.commands(exchange.name, exchange_settings.account)
            await run_account(
                AccountContext(
                    settings=settings,
                    exchange=exchange.name,
                    exchange_settings=exchange_settings,
                    entry=venue.entry,
                    budget=venue.budget,
                    instruments=lambda: instruments,
                    streams=streams,
                    publisher=publisher,
                    commands=StreamConsumer(url, [commands], "connector", service.name),
                    control=TailReader(url, [streams.control], "0", name="control"),
                    open_bus=lambda: Connection.open(url, name=service.name),
                    health=service.health,
                ),
                service.stop,
            )
            stop_feed.set()
    finally:
        await publisher.close(CLOSE_GRACE_S)


def _venue(settings: Settings, exchange: Exchange, exchange_settings: ExchangeSettings) -> tuple[VenueUrls, Credentials]:
    """Where the venue is and with which key. In simulation that is this machine, and keys are not read at all."""
    if settings.mode is not Mode.SIMULATION:
        raise ServiceError(
            f"mode {settings.mode.value} needs arming, which this version does not have, so nothing is sent; use mode simulation"
        )
    given = VenueUrls(exchange_settings.rest_url, exchange_settings.ws_url, exchange_settings.ws_api_url)
    if given.rest and given.market and given.orders:
        return given, SIMULATOR
    local = exchange.local_urls(simulator_url(settings, exchange.name))
    return VenueUrls(given.rest or local.rest, given.market or local.market, given.orders or local.orders), SIMULATOR
