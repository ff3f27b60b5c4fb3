"""The bot process: wires the parts together, reads the bus, and stops in two phases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from bot.account_events import AccountEvents
from bot.consensus import Consensus
from bot.controls import Controls, ControlsError
from bot.data_provider import CandlesRebuilt, DataProvider
from bot.decision_maker import DecisionMaker
from bot.exit_watch import ExitWatch
from bot.isolation.workers import Nursery
from bot.market_readers import MarketReaders
from bot.metrics import BotMetrics, BotParts
from bot.order_desk import OrderDesk
from bot.order_planner import OrderPlanner
from bot.plugin_handler import CALLBACK_TYPES, PluginHandler, Turns
from bot.plugin_host import PluginHost
from bot.plugin_lifecycle import PluginLifecycle
from bot.plugin_registry import PluginRegistry, RegistryError
from bot.plugin_starter import Workers
from bot.portfolio import Portfolio
from bot.records import STRATEGY, PositionKey
from bot.storage import Storage, StorageError
from bot.warm_up import keep_warm
from bus.consumer import StreamConsumer
from bus.interfaces import Publisher
from bus.publisher import StreamPublisher
from bus.streams import Stream, Streams
from common_models import Control, Symbol, Ticker
from common_models.timestamps import NS_PER_S
from runtime.append_log import AppendLogError
from runtime.clock import now_ns
from runtime.endpoints import bus_url
from runtime.service import Service, ServiceError, run_service
from runtime.settings import Settings
from strategy import Market

log = structlog.get_logger(__name__)

NAME = "bot"
HOUSEKEEPING_S = 1.0
TELL_POSITIONS_S = 5.0
STOP_GRACE_S = 5.0

ACCOUNT_KINDS = ("orders", "fills", "balances", "status")


def run(settings: Settings) -> int:
    """Run the bot until it is told to stop; returns the exit code of the process."""
    return run_service(NAME, settings, settings.bot.port, main)


async def main(service: Service) -> None:
    """Trade until `service.stop` is set, each plugin in a process of its own."""
    nursery = Nursery(service.settings.bot.worker, service.settings.home / "logs" / "plugins")
    try:
        await trade(service, nursery)
    finally:
        await nursery.close()


async def trade(service: Service, workers: Workers) -> None:
    """Trade until `service.stop` is set, then leave nothing unwritten."""
    settings, url = service.settings, bus_url(service.settings)
    publisher = StreamPublisher(url, producer=NAME)
    loop = EventLoop(settings, publisher, workers)
    workers.on_lost = loop.lifecycle.workers_died
    loop.open()
    try:
        await publisher.start()
        loop.start()
        readers = MarketReaders(url, loop.streams, loop.exchanges, loop.provider.handle, service.stop)
        loop.host.wants = readers.want
        consumer = StreamConsumer(url, loop.account_streams, group=NAME, consumer_name=NAME)
        async with asyncio.TaskGroup() as tasks:
            readers.start(tasks)
            tasks.create_task(consumer.run(loop.account_events.handle, service.stop), name="account")
            tasks.create_task(loop.lifecycle.run(tasks, service.stop), name="plugins")
            tasks.create_task(
                keep_warm(settings, loop.provider, loop.lifecycle.slots.cold_markets, lambda: loop.host.bars_needed, service.stop),
                name="warm-up",
            )
            tasks.create_task(loop.keep_house(service), name="housekeeping")
        loop.desk.flush_denials(everything=True)
    finally:
        left = await publisher.close(STOP_GRACE_S)
        if left:
            log.warning("bot.unpublished_at_stop", messages=left)
        loop.close()


class EventLoop:
    """All parts of the bot, wired; the bus and the workers are handed in, so that tests and backtests can hand in others."""

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        workers: Workers,
        clock: Callable[[], int] = now_ns,
        turns: Turns | None = None,
    ) -> None:
        self._settings = settings
        mode, risk = settings.mode.value, settings.bot.risk
        directory = settings.home / "bot" / mode
        self.streams = Streams(mode)
        self._exchanges = {name: exchange for name, exchange in settings.exchanges.items() if exchange.enabled}
        self.exchanges = tuple(self._exchanges)
        accounts = {name: exchange.account for name, exchange in self._exchanges.items()}
        markets = [
            Market(name, str(Symbol.parse(symbol))) for name, exchange in self._exchanges.items() for symbol in exchange.symbols
        ]
        self.metrics = BotMetrics(self._exchanges)
        self.provider = DataProvider(markets, settings.bot.timeframe)
        self.portfolio = Portfolio(self.provider.mark)
        self.storage = Storage(directory, self.portfolio)
        planner = OrderPlanner(mode, int(risk.order_ttl_s * NS_PER_S))
        self.desk = OrderDesk(publisher, self.streams, self.storage, self.portfolio, planner, self.metrics, clock)
        self.consensus = Consensus(risk.min_opinions)
        self.controls = Controls(directory / "pauses.json")
        self.decision_maker = DecisionMaker(
            risk, accounts, self.portfolio, self.consensus, self.controls, self.provider, self.desk, clock
        )
        self.exit_watch = ExitWatch(STRATEGY, risk, self.portfolio, self.consensus, self.provider, self.desk, clock)
        self.host = PluginHost(self.desk, self.consensus, self.decision_maker, self.exit_watch, self.provider, self.metrics)
        self.plugins = PluginHandler(markets, self.provider, self.host, clock, risk.max_event_age_s, turns)
        self.registry = PluginRegistry(directory, settings.home / "bot" / "plugin_versions")
        self.lifecycle = PluginLifecycle(settings.bot, self.plugins, self.registry, workers, self.host, clock)
        self.account_events = AccountEvents(
            self.portfolio, self.storage, self.provider, publisher, self.streams, self.metrics, clock
        )
        self._told_positions: dict[PositionKey, object] = {}

    @property
    def account_streams(self) -> list[Stream]:
        """What connectors say of our accounts."""
        return [
            self.streams.account(name, exchange.account, kind)
            for name, exchange in self._exchanges.items()
            for kind in ACCOUNT_KINDS
        ]

    def open(self) -> None:
        """Read back what this bot decided, held and was told; raises ServiceError when it cannot be known."""
        try:
            records = self.storage.open()
            self.controls.open()
            self.registry.open()
        except (AppendLogError, StorageError, ControlsError, RegistryError) as error:
            raise ServiceError(str(error)) from error
        orders, positions = len(self.portfolio.orders), len(list(self.portfolio.positions(STRATEGY)))
        log.info("bot.restored", records=records, orders_in_flight=orders, positions=positions, pauses=dict(self.controls.pauses))

    def start(self) -> None:
        """Subscribe the parts to each other, and ask for the fate of orders that were on their way."""
        provider = self.provider
        provider.add_observer(self.exit_watch.update, Ticker)
        provider.add_observer(self.plugins.update, *CALLBACK_TYPES)
        provider.add_observer(self.plugins.rebuild, CandlesRebuilt)
        provider.add_observer(self.decision_maker.reconsider, Ticker)
        provider.add_observer(self._control, Control)
        self.portfolio.changed = self.exit_watch.position_changed
        self.exit_watch.restore()
        self.desk.ask_again(everything=True)
        self.metrics.expose(self._parts())

    def close(self) -> None:
        """Give the storage back."""
        self.storage.close()

    async def keep_house(self, service: Service) -> None:
        """Every second: tell joined denials, ask for late answers, report health; now and then tell positions at the mark."""
        turn = 0
        while not service.stop.is_set():
            self.tidy(tell_positions=turn % int(TELL_POSITIONS_S / HOUSEKEEPING_S) == 0)
            self._report(service)
            turn += 1
            try:
                await asyncio.wait_for(service.stop.wait(), HOUSEKEEPING_S)
            except TimeoutError:
                continue

    def tidy(self, *, tell_positions: bool) -> None:
        """One round of housekeeping."""
        self.desk.flush_denials()
        self.desk.ask_again()
        if tell_positions:
            for key in self.portfolio.positions(STRATEGY):
                mark = self.provider.mark(key.exchange, key.symbol)
                if mark is not None and self._told_positions.get(key) != mark:
                    self._told_positions[key] = mark
                    self.account_events.tell_position(key)

    def _control(self, control: Control) -> None:
        if self.controls.update(control):
            log.info("bot.told", action=control.action, target=control.target, actor=control.actor, reason=control.reason)
        self.lifecycle.hear(control)

    def _report(self, service: Service) -> None:
        health, slots = service.health, self.lifecycle.slots
        running = [slot.name for slot, _ in slots.running()]
        others = [f"{slot.name} is {slot.state}: {slot.reason}" for slot in slots.by_path.values() if slot.feed is None]
        detail = f"running: {', '.join(sorted(running)) or 'none'}" + (f"; {'; '.join(others)}" if others else "")
        health.report("plugins", self.lifecycle.loaded, detail if self.lifecycle.loaded else "being loaded")
        cold = ", ".join(market.symbol for market in self.lifecycle.slots.cold_markets())
        health.report("warm_up", True, f"plugins wait for candles of {cold}" if cold else "")
        orders = len(self.portfolio.orders)
        paused = f", entries paused: {dict(self.controls.pauses)}" if self.controls.pauses else ""
        health.report("trading", True, f"{orders} orders in flight, {self.desk.orders} ordered, {self.desk.denied} denied{paused}")

    def _parts(self) -> BotParts:
        """Whom the figures on /metrics are read from."""
        totals: dict[str, tuple[str, Callable[[], float]]] = {
            "tradebot_bot_events": ("Messages taken in", lambda: self.provider.events),
            "tradebot_bot_handler_failures": ("Messages that a part of the bot failed on", lambda: self.provider.failures),
            "tradebot_bot_missed_messages": ("Market messages known to be lost", lambda: self.provider.missed),
            "tradebot_bot_unpublished_messages": ("Messages that the bus did not take", lambda: self.desk.unpublished),
            "tradebot_bot_late_answers": ("Signals that came too late for their round", lambda: self.plugins.late_answers),
            "tradebot_bot_fills": ("Fills booked", lambda: self.account_events.fills),
        }
        return BotParts(
            self.portfolio, self.controls, self._settings.bot.risk, self._exchanges, self.decision_maker.open_trades, totals
        )
