"""`tradebot simulator EXCHANGE`: a local exchange that speaks that venue's own protocol, for our connector and anyone's client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
from aiohttp import web

from common_models.instruments import Symbol
from runtime import metrics
from runtime.append_log import AppendLogError
from runtime.endpoints import write_private
from runtime.service import Service, ServiceError, run_service
from runtime.settings import ExchangeSettings, Settings
from simulator.control import add_control_routes
from simulator.exchange import SimulatedExchange
from simulator.faults import Faults
from simulator.listing import base_price, listing
from simulator.market import SyntheticMarket
from simulator.recording import RecordingError
from simulator.replay import Replay, Survey, instruments, survey
from simulator.venue import Venue, load_venue

log = structlog.get_logger(__name__)

PORT_OFFSET = 1000
_TURN_S = 0.25
_BODY_BYTES = 64 * 1024


def run(settings: Settings, exchange: str) -> int:
    """Run the simulator of one exchange until it is told to stop; the exit code of the process."""

    configured = settings.exchanges.get(exchange)

    async def main(service: Service) -> None:
        if configured is None:
            raise ServiceError(f"{exchange!r} is not configured; add it to config/exchanges.yaml")
        state_dir = settings.home / "simulator" / exchange
        address = state_dir / "address"
        port = former_port(address) or venue_port(configured)
        async with running(exchange, configured, state_dir, settings.host, port) as simulator:
            write_private(address, simulator.url)
            write_private(settings.run_dir / f"{service.name}.url", simulator.url)
            simulator.expose_metrics()
            service.health.report("market", True, simulator.url)
            await simulator.until(service.stop)
        address.unlink(missing_ok=True)

    health_port = configured.simulator.health_port if configured is not None else 0
    return run_service(f"simulator-{exchange}", settings, health_port, main)


def former_port(address: Path) -> int:
    """The port of a run that was killed, where clients still look for it; a run that ended well leaves no address."""
    try:
        return int(address.read_text().rpartition(":")[2])
    except (FileNotFoundError, ValueError):
        return 0


def venue_port(settings: ExchangeSettings) -> int:
    """Where the venue's protocol is served: configured, or the connector's port + 1000; 0 is any free port."""
    return settings.simulator.port or (settings.port + PORT_OFFSET if settings.port else 0)


class Simulator:
    """One running venue: exchange, wire and market. `replay` is None when the market is synthetic."""

    def __init__(self, name: str, settings: ExchangeSettings, state_dir: Path) -> None:
        self.name = name
        self.settings = settings.simulator
        venue_class = load_venue(name)
        replay_file = self.settings.replay
        found = survey(replay_file, venue_class) if replay_file is not None else None
        symbols = [Symbol.parse(text) for text in settings.symbols]
        if found is not None:
            listed = instruments(name, found)
        else:
            listed = [listing(name, symbol, venue_class.native_symbol(symbol), base_price(symbol, settings)) for symbol in symbols]
        market_dir = state_dir if found is None else None
        self.exchange = SimulatedExchange(listed, self.settings, state_dir / "ledger.log", market_dir)
        self.faults = Faults(self.settings.seed)
        self.venue: Venue = venue_class(self.exchange, settings, self.faults)
        self.agents = [] if found is not None else [self._agents(symbol, settings) for symbol in symbols]
        self.replay = self._replay(found, replay_file) if found is not None and replay_file is not None else None
        self.url = ""

    def _agents(self, symbol: Symbol, settings: ExchangeSettings) -> SyntheticMarket:
        market = self.exchange.markets[str(symbol)]
        agents = SyntheticMarket(self.exchange, market, base_price(symbol, settings), self.settings.seed)
        agents.make_history(self.settings.history_bars)
        agents.step(0.1)  # a book before the first client asks for it
        return agents

    def _replay(self, found: Survey, path: Path) -> Replay:
        if self.settings.retime:  # one trades on it, and indicators need a past
            for market in self.exchange.markets.values():
                price = found.symbols[market.instrument.native_symbol].price
                SyntheticMarket(self.exchange, market, price, self.settings.seed).make_history(self.settings.history_bars)
        return Replay(self.exchange, self.venue, found, path, speed=self.settings.speed, retime=self.settings.retime)

    async def until(self, stop: asyncio.Event) -> None:
        """Let the market live until `stop` is set, then tell the clients."""
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(agents.run(), name="agents") for agents in self.agents]
            work += [tasks.create_task(self.venue.run(), name="publisher"), tasks.create_task(self._turn(), name="turn")]
            if self.replay is not None:
                work.append(tasks.create_task(self.replay.run(), name="replay"))
            await stop.wait()
            self.venue.announce_shutdown()
            for task in work:
                task.cancel()

    async def _turn(self) -> None:
        while True:
            self.exchange.turn()
            if self.exchange.ledger.failed is not None:
                raise ServiceError(f"the ledger cannot be written: {self.exchange.ledger.failed}; free some disk space")
            await asyncio.sleep(_TURN_S)

    def expose_metrics(self) -> None:
        labels = {"exchange": self.name}
        ledger, engine = self.exchange.ledger, self.exchange.engine
        metrics.expose_counter(
            "tradebot_simulator_ledger_entries_total", "Entries in the ledger", labels, lambda: ledger.next_sequence - 1
        )
        metrics.expose_counter(
            "tradebot_simulator_orders_total",
            "Orders, those of the synthetic market included",
            labels,
            lambda: engine.next_order_id - 1,
        )


@contextlib.asynccontextmanager
async def running(
    name: str, settings: ExchangeSettings, state_dir: Path, host: str = "127.0.0.1", port: int | None = None
) -> AsyncIterator[Simulator]:
    """A simulator that listens, on `port` or where its settings say; its market lives while `until` runs.

    Raises ServiceError when it cannot start.
    """
    try:
        simulator = Simulator(name, settings, state_dir)
    except (AppendLogError, RecordingError) as error:
        raise ServiceError(str(error)) from error
    app = web.Application(client_max_size=_BODY_BYTES)
    simulator.venue.add_routes(app)
    add_control_routes(app, simulator.exchange, simulator.faults, simulator.replay)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        listening = await _listen(runner, host, venue_port(settings) if port is None else port)
        simulator.url = f"http://{host}:{listening}"
        log.info("simulator.listening", exchange=name, url=simulator.url, symbols=list(simulator.exchange.markets))
        yield simulator
    finally:
        await runner.cleanup()
        simulator.exchange.close()


async def _listen(runner: web.AppRunner, host: str, wanted: int) -> int:
    """Listen on the wanted port, or on a free one when it is taken; the port in fact used."""
    try:
        await web.TCPSite(runner, host, wanted).start()
    except OSError as error:
        if not wanted:
            raise
        log.warning("simulator.port_taken", wanted=wanted, reason=str(error))
        await web.TCPSite(runner, host, 0).start()
    port: int = runner.addresses[0][1]
    return port
