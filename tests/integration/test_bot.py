"""The whole bot on a real Valkey: a pretended connector publishes the market, takes the commands and answers them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.event_loop import main
from bus.consumer import StreamConsumer
from bus.interfaces import Delivery
from bus.publisher import StreamPublisher
from bus.reader import TailReader
from bus.streams import Streams
from common_models import (
    AnyMessage,
    Balance,
    Candle,
    Decision,
    Fill,
    Instrument,
    InstrumentStatus,
    Liquidity,
    OrderStatus,
    OrderUpdate,
    PlaceOrder,
    Position,
    RoundTrip,
    Side,
    Signal,
    Ticker,
)
from runtime.clock import now_ns
from runtime.health import Health
from runtime.service import Service
from runtime.settings import Settings
from strategy.testing import candles
from tests.support.servers import ServerProcess
from tests.support.waiting import eventually

D = Decimal
MINUTE_NS = 60_000_000_000
STREAMS = Streams("simulation")
ACCOUNT: dict[str, Any] = {"exchange": "binance", "account": "main", "ts_event_ns": None}
PLUGINS = Path(__file__).resolve().parents[2] / "plugins/technical_indicators"


class PretendedConnector:
    """Fills every order at once at the present price; `silent` lets commands lie."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.publisher = StreamPublisher(url, producer="connector-binance")
        self.price = D(50_000)
        self.commands: list[PlaceOrder] = []
        self.orders: dict[str, list[Any]] = {}
        self.seen: list[AnyMessage] = []
        self.silent = False

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.seen if isinstance(message, kind)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PretendedConnector]:
        stop = asyncio.Event()
        await self.publisher.start()
        watched = [STREAMS.signals, STREAMS.decisions, STREAMS.round_trips, STREAMS.account("binance", "main", "positions")]
        consumer = StreamConsumer(self._url, [STREAMS.commands("binance", "main")], "connector", "connector", block_ms=200)
        reader = TailReader(self._url, watched, "0", block_ms=200)
        tasks = [
            asyncio.create_task(consumer.run(self._obey, stop)),
            asyncio.create_task(reader.run(lambda _, message: self.seen.append(message), stop)),
        ]
        try:
            yield self
        finally:
            stop.set()
            await asyncio.gather(*tasks)
            await self.publisher.close()

    def say(self, kind: str, message: Any) -> None:
        self.publisher.put(STREAMS.account("binance", "main", kind), message)

    def open_market(self) -> None:
        """Rules, balances, and forty closed candles that rise and end just now."""
        at_ns = now_ns()
        rules = {"price_tick": D("0.01"), "quantity_step": D("0.00001"), "min_quantity": D("0.00001"), "min_notional": D(5)}
        instrument = Instrument(
            exchange="binance",
            symbol="BTC/USDT",
            ts_event_ns=None,
            ts_recv_ns=at_ns,
            native_symbol="BTCUSDT",
            **{"base": "BTC", "quote": "USDT", "status": InstrumentStatus.TRADING, **rules},
        )
        self.publisher.put(STREAMS.market("binance", "instruments"), instrument)
        closes = [49_000 + 20 * number for number in range(40)]
        for candle in candles(closes, start_ns=at_ns - at_ns % MINUTE_NS - 40 * MINUTE_NS):
            fields = {name: getattr(candle, name) for name in candle.__struct_fields__}
            self.publisher.put(STREAMS.market("binance", "candles"), Candle(**{**fields, "exchange": "binance"}))
        for asset, free in (("USDT", 100_000), ("BTC", 1)):
            self.say("balances", Balance(**ACCOUNT, ts_recv_ns=at_ns, asset=asset, free=D(free), locked=D(0)))

    def tick(self, price: int) -> None:
        self.price = D(price)
        ticker = Ticker(
            exchange="binance",
            symbol="BTC/USDT",
            ts_event_ns=None,
            ts_recv_ns=now_ns(),
            crossed=False,
            bid_price=self.price,
            bid_size=D(1),
            ask_price=self.price + D("0.01"),
            ask_size=D(1),
        )
        self.publisher.put(STREAMS.market("binance", "tickers"), ticker)

    async def _obey(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            command = delivery.message
            assert isinstance(command, PlaceOrder)
            self.commands.append(command)
            if not self.silent:
                self.answer(command)

    def answer(self, command: PlaceOrder) -> None:
        """One order for one command id, however often it comes."""
        if command.command_id not in self.orders:
            self.orders[command.command_id] = self._executed(command, len(self.orders) + 1)
        update, fill = self.orders[command.command_id]
        self.say("orders", update)
        self.say("fills", fill)

    def _executed(self, command: PlaceOrder, number: int) -> list[Any]:
        at_ns, quote = now_ns(), command.quantity * self.price
        order = {"client_order_id": f"{number:032x}", "symbol": command.symbol, "side": command.side, "strategy": command.strategy}
        buys = command.side is Side.BUY
        update = OrderUpdate(
            **{**ACCOUNT, **order, "order_type": command.order_type, "status": OrderStatus.FILLED, "revision": 3},
            quantity=command.quantity,
            filled_quantity=command.quantity,
            filled_quote=quote,
            ts_recv_ns=at_ns,
            command_id=command.command_id,
        )
        fill = Fill(
            **{**ACCOUNT, **order, "trade_id": str(number), "exchange_order_id": str(number), "liquidity": Liquidity.TAKER},
            price=self.price,
            quantity=command.quantity,
            quote_quantity=quote,
            fee=(command.quantity if buys else quote) * D("0.001"),
            fee_asset="BTC" if buys else "USDT",
            ts_recv_ns=at_ns,
        )
        return [update, fill]


@pytest.fixture
async def connector(own_valkey: Callable[[], ServerProcess]) -> AsyncIterator[PretendedConnector]:
    async with PretendedConnector(own_valkey().url).running() as connector:
        yield connector


def settings_for(url: str, home: Path, **risk: Any) -> Settings:
    return Settings.model_validate(
        {
            "home": home,
            "bus": {"url": url},
            "bot": {
                "plugins_dir": PLUGINS,
                "risk": {"cooldown_s": 0, **risk},
                # the others would vote against a trend
                "plugins": {
                    "sma": {"mode": "live"},
                    "ema": {"mode": "live"},
                    "rsi": {"mode": "off"},
                    "bollinger_bands": {"mode": "off"},
                },
            },
            "exchanges": {"binance": {"port": 8001}},
        }
    )


@asynccontextmanager
async def bot_running(settings: Settings) -> AsyncIterator[Service]:
    """The bot's main function in this process; on the way out the first phase of stopping."""
    service = Service("bot", settings, Health("bot"))
    task = asyncio.create_task(main(service))
    try:
        await eventually(lambda: service.health.ready or task.done())
        yield service
    finally:
        service.stop.set()
        await asyncio.wait_for(task, 10)


async def kill(settings: Settings, until: Callable[[], Any], doing: Callable[[], None]) -> None:
    """Run the bot until something has happened and end it without any phase of stopping."""
    service = Service("bot", settings, Health("bot"))
    task = asyncio.create_task(main(service))
    try:
        await eventually(lambda: service.health.ready)

        def poke() -> Any:
            doing()
            return until()

        await eventually(poke)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_candles_and_live_prices_become_signals_orders_positions_and_round_trips(
    connector: PretendedConnector, tmp_path: Path
) -> None:
    connector.open_market()
    async with bot_running(settings_for(connector._url, tmp_path)):

        def trend(price: int) -> Callable[[], bool]:
            def poke() -> bool:
                connector.tick(price)
                return bool(connector.of(RoundTrip) if price < 49_800 else [p for p in connector.of(Position) if p.quantity > 0])

            return poke

        await eventually(trend(49_805), what="a position after a rising trend")
        await eventually(trend(49_000), what="the stop-loss after a fall")

    entry, exit_order = connector.commands[:2]
    assert (entry.side, exit_order.side, exit_order.reduce_only) == (Side.BUY, Side.SELL, True)
    (trip,) = connector.of(RoundTrip)[:1]
    assert trip.exit_reason in ("stop_loss", "exit_signal")
    assert trip.profit < 0
    assert {signal.strategy for signal in connector.of(Signal)} >= {"sma", "ema"}
    taken = {decision.command_id: decision for decision in connector.of(Decision) if decision.command_id}
    assert taken.keys() >= {entry.command_id, exit_order.command_id}
    known = {signal.message_id for signal in connector.of(Signal)}
    assert set(taken[entry.command_id].signals) <= known


async def test_a_killed_bot_asks_for_its_order_and_goes_on_with_the_position(connector: PretendedConnector, tmp_path: Path) -> None:
    connector.silent = True
    connector.open_market()
    settings = settings_for(connector._url, tmp_path)
    await kill(settings, until=lambda: connector.commands, doing=lambda: connector.tick(49_805))
    first = connector.commands[0]
    connector.silent = False

    async with bot_running(settings):
        await eventually(
            lambda: [p for p in connector.of(Position) if p.quantity > 0], what="the fill of the order that was asked for"
        )

        def fall() -> Any:
            connector.tick(49_000)
            return connector.of(RoundTrip)

        await eventually(fall)

    entries = [command for command in connector.commands if not command.reduce_only]
    assert entries[0].command_id == entries[1].command_id == first.command_id
    assert len({command.command_id for command in connector.commands if not command.reduce_only}) == 1
    assert connector.of(RoundTrip)[0].quantity == D("0.0401")  # 0.04015 less the fee, in whole steps


async def test_a_fill_that_arrived_while_the_bot_was_down_is_booked_once(connector: PretendedConnector, tmp_path: Path) -> None:
    connector.silent = True
    connector.open_market()
    settings = settings_for(connector._url, tmp_path)
    await kill(settings, until=lambda: connector.commands, doing=lambda: connector.tick(49_805))
    connector.answer(connector.commands[0])
    connector.answer(connector.commands[0])
    connector.silent = False

    async with bot_running(settings):
        await eventually(lambda: connector.of(Position))
        await eventually(lambda: len(connector.commands) > 1)

    quantities = {position.quantity for position in connector.of(Position)}
    assert quantities == {connector.commands[0].quantity * D("0.999")}
