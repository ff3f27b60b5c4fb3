"""The bot process: wires the parts together, reads the bus, and stops in two phases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from bot.account_events import AccountEvents
from bot.consensus import Consensus
from bot.controls import Controls
from bot.data_provider import CandlesRebuilt, DataProvider
from bot.decision_maker import STRATEGY, DecisionMaker
from bot.exit_watch import ExitWatch
from bot.order_desk import OrderDesk
from bot.order_planner import OrderPlanner
from bot.plugin_handler import EVENT_TYPES, PluginHandler
from bot.plugin_loader import load_plugins, needs_of
from bot.portfolio import Portfolio
from bot.records import PositionKey
from bot.storage import Storage
from bot.warm_up import keep_warm
from bus.consumer import StreamConsumer
from bus.interfaces import Publisher
from bus.publisher import StreamPublisher
from bus.reader import TailReader
from bus.streams import Stream, Streams
from common_models import AlertLevel, Control, ControlAction, Symbol, Ticker
from common_models.timestamps import NS_PER_S
from runtime.append_log import AppendLogError
from runtime.clock import now_ns
from runtime.endpoints import bus_url
from runtime.metrics import expose_counter, expose_gauge
from runtime.service import Service, ServiceError, run_service
from runtime.settings import PluginSettings, Settings
from strategy import Market

log = structlog.get_logger(__name__)

NAME = "bot"
HOUSEKEEPING_S = 1.0
TELL_POSITIONS_S = 5.0
STOP_GRACE_S = 5.0

FROM_START = ("instruments", "candles")
"""Market streams that are read from their beginning: what was said long ago still counts."""

ACCOUNT_KINDS = ("orders", "fills", "balances", "status")


def run(settings: Settings) -> int:
    """Run the bot until it is told to stop; returns the exit code of the process."""
    return run_service(NAME, settings, settings.bot.port, main)


async def main(service: Service) -> None:
    """Trade until `service.stop` is set, then leave nothing unwritten."""
    url = bus_url(service.settings)
    publisher = StreamPublisher(url, producer=NAME)
    loop = EventLoop(service.settings, publisher)
    loop.open()
    try:
        await publisher.start()
        loop.start()
        reader = TailReader(url, loop.market_streams, loop.read_from, name=NAME)
        consumer = StreamConsumer(url, loop.account_streams, group=NAME, consumer_name=NAME)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reader.run(loop.provider.handle, service.stop), name="market")
            tasks.create_task(consumer.run(loop.account_events.handle, service.stop), name="account")
            tasks.create_task(
                keep_warm(service.settings, loop.provider, loop.plugins, loop.bars_needed, service.stop), name="warm-up"
            )
            tasks.create_task(loop.keep_house(service), name="housekeeping")
        loop.desk.flush_denials(everything=True)
    finally:
        left = await publisher.close(STOP_GRACE_S)
        if left:
            log.warning("bot.unpublished_at_stop", messages=left)
        loop.close()


class EventLoop:
    """All parts of the bot, wired; the bus is handed in, so that tests and backtests can hand in another."""

    def __init__(self, settings: Settings, publisher: Publisher, clock: Callable[[], int] = now_ns) -> None:
        mode, risk = settings.mode.value, settings.bot.risk
        self._settings = settings
        self._publisher = publisher
        self._clock = clock
        self._streams = Streams(mode)
        self._exchanges = {name: exchange for name, exchange in settings.exchanges.items() if exchange.enabled}
        accounts = {name: exchange.account for name, exchange in self._exchanges.items()}
        markets = [
            Market(name, str(Symbol.parse(symbol))) for name, exchange in self._exchanges.items() for symbol in exchange.symbols
        ]
        self._loaded, self._broken = load_plugins(settings.bot.plugins_dir)
        needs = [needs_of(plugin.kind, self._plugin_settings(plugin.kind.name).settings) for plugin in self._loaded]
        self.bars_needed = max((bars for bars, _ in needs), default=0)
        self._callbacks = frozenset(name for _, names in needs for name in names)

        self.provider = DataProvider(markets, settings.bot.timeframe, keep_candles=max(2 * self.bars_needed, 100))
        self.portfolio = Portfolio(self.provider.mark)
        self.storage = Storage(settings.home / "bot" / mode, self.portfolio)
        planner = OrderPlanner(mode, int(risk.order_ttl_s * NS_PER_S))
        self.desk = OrderDesk(publisher, self._streams, self.storage, self.portfolio, planner, clock)
        self.consensus = Consensus(settings.bot.risk.min_opinions)
        self.controls = Controls()
        self.decision_maker = DecisionMaker(
            risk, accounts, self.portfolio, self.consensus, self.controls, self.provider, self.desk, clock
        )
        self.exit_watch = ExitWatch(STRATEGY, risk, self.portfolio, self.consensus, self.provider, self.desk, clock)
        self.plugins = PluginHandler(
            markets, self.decision_maker.decide, self.provider.run_length, self.provider.run_of, self, clock, risk.max_event_age_s
        )
        self.account_events = AccountEvents(self.portfolio, self.storage, self.provider, publisher, self._streams, clock)
        self._told_positions: dict[PositionKey, object] = {}

    @property
    def market_streams(self) -> list[Stream]:
        """What the plugins want to hear, what every decision needs, and what people say."""
        kinds = ["instruments", "candles", "tickers"]
        kinds += [kind for kind, callback in (("trades", "on_trade"), ("books", "on_book")) if callback in self._callbacks]
        return [self._streams.market(exchange, kind) for exchange in self._exchanges for kind in kinds] + [self._streams.control]

    @property
    def read_from(self) -> dict[str, str]:
        """Where reading of each market stream begins."""
        starts = {stream.name: "$" for stream in self.market_streams}
        starts[self._streams.control.name] = "0"
        for exchange in self._exchanges:
            starts.update({self._streams.market(exchange, kind).name: "0" for kind in FROM_START})
        return starts

    @property
    def account_streams(self) -> list[Stream]:
        """What connectors say of our accounts."""
        return [
            self._streams.account(name, exchange.account, kind)
            for name, exchange in self._exchanges.items()
            for kind in ACCOUNT_KINDS
        ]

    def open(self) -> None:
        """Read back what this bot decided and held; raises ServiceError when it cannot be known."""
        try:
            records = self.storage.open()
        except AppendLogError as error:
            raise ServiceError(str(error)) from error
        orders, positions = len(self.portfolio.orders), len(list(self.portfolio.positions(STRATEGY)))
        log.info("bot.restored", records=records, orders_in_flight=orders, positions=positions)

    def start(self) -> None:
        """Subscribe the parts to each other, start the plugins, and ask for the fate of orders that were on their way."""
        provider = self.provider
        provider.add_observer(self.exit_watch.update, Ticker)
        provider.add_observer(self.plugins.update, *EVENT_TYPES)
        provider.add_observer(self.plugins.rebuild, CandlesRebuilt)
        provider.add_observer(self.decision_maker.reconsider, Ticker)
        provider.add_observer(self._control, Control)
        self.portfolio.changed = self.exit_watch.position_changed
        self.exit_watch.restore()
        for plugin in self._loaded:
            self.plugins.add(plugin.kind, self._plugin_settings(plugin.kind.name))
        for broken in self._broken:
            self.desk.alert(AlertLevel.ERROR, "PLUGIN_BROKEN", broken.reason)
        for name in self._settings.bot.plugins.keys() - self.plugins.slots.keys():
            text = f"bot.plugins.{name} is configured, but no file in {self._settings.bot.plugins_dir} has a plugin of this name"
            self.desk.alert(AlertLevel.ERROR, "PLUGIN_MISSING", text)
        self.desk.ask_again(everything=True)
        self._expose_metrics()

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

    def plugin_disabled(self, name: str, reason: str) -> None:
        """A plugin was switched off: tell a person."""
        self.desk.alert(AlertLevel.ERROR, "PLUGIN_DISABLED", f"plugin {name} is switched off: {reason}", plugin=name)

    def opinions_void(self, name: str, market: Market | None) -> None:
        """What a plugin said holds no more."""
        self.consensus.withdraw(name, market)

    def _control(self, control: Control) -> None:
        self.controls.update(control)
        if control.target is None or control.target not in self.plugins.slots:
            return
        slot = self.plugins.slots[control.target]
        if control.action is ControlAction.DISABLE:
            self.plugins.disable(control.target, f"disabled by {control.actor}: {control.reason}")
        elif control.action is ControlAction.ENABLE and slot.off_because:
            self.plugins.enable(control.target)

    def _plugin_settings(self, name: str) -> PluginSettings:
        return self._settings.bot.plugins.get(name, PluginSettings())

    def _report(self, service: Service) -> None:
        health = service.health
        running = [name for name, slot in self.plugins.slots.items() if slot.instances]
        off = {name: slot.off_because for name, slot in self.plugins.slots.items() if slot.off_because}
        health.report("plugins", bool(running), f"running: {', '.join(running) or 'none'}; off: {off or 'none'}")
        cold = [f"{name} on {market.symbol}" for name, market in self.plugins.cold()]
        health.report("warm_up", True, f"waiting for candles: {', '.join(cold)}" if cold else "")
        orders = len(self.portfolio.orders)
        health.report("trading", True, f"{orders} orders in flight, {self.desk.orders} ordered, {self.desk.denied} denied")

    def _expose_metrics(self) -> None:
        counters: dict[str, tuple[str, Callable[[], float]]] = {
            "tradebot_bot_events": ("Messages taken in", lambda: self.provider.events),
            "tradebot_bot_handler_failures": ("Messages that a part of the bot failed on", lambda: self.provider.failures),
            "tradebot_bot_missed_messages": ("Market messages known to be lost", lambda: self.provider.missed),
            "tradebot_bot_signals": ("Signals published", lambda: self.desk.signals),
            "tradebot_bot_orders": ("Orders decided", lambda: self.desk.orders),
            "tradebot_bot_denials": ("Decisions that a gate stopped", lambda: self.desk.denied),
            "tradebot_bot_unpublished_messages": ("Messages that the bus did not take", lambda: self.desk.unpublished),
            "tradebot_bot_fills": ("Fills booked", lambda: self.account_events.fills),
            "tradebot_bot_plugin_errors": ("Failed plugin callbacks", lambda: self.plugins.errors),
        }
        for name, (text, read) in counters.items():
            expose_counter(name, text, {}, read)
        expose_gauge("tradebot_bot_orders_in_flight", "Orders that are not over", {}, lambda: len(self.portfolio.orders))
        for exchange in self._exchanges:
            open_positions = partial(self._open_positions, exchange)
            expose_gauge(
                "tradebot_bot_positions", "Positions that hold something, dust included", {"exchange": exchange}, open_positions
            )

    def _open_positions(self, exchange: str) -> float:
        return sum(key.exchange == exchange for key in self.portfolio.positions(STRATEGY))
