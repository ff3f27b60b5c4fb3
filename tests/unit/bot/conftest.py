"""A whole bot without a bus: events and answers go in by hand, what it publishes is looked at."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec.structs import force_setattr

from bot.event_loop import EventLoop
from bot.isolation.in_process import InProcessWorkers
from bot.records import PositionKey
from bus.codec import decode, encode
from bus.interfaces import Delivery
from bus.streams import Stream
from common_models import (
    Balance,
    Candle,
    Control,
    ControlAction,
    Decision,
    Fill,
    Instrument,
    InstrumentStatus,
    Liquidity,
    Message,
    OrderStatus,
    OrderUpdate,
    PlaceOrder,
    Side,
    Ticker,
    Verdict,
)
from runtime.settings import Settings
from strategy.testing import candles

D = Decimal
M = TypeVar("M", bound=Message)
START_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000

OBEDIENT = '''
"""Says what the size of the bid tells it: 1 is buy, 2 is sell, 3 is hold, anything else is nothing."""
from strategy import Direction, Plugin

WORDS = {1: Direction.BUY, 2: Direction.SELL, 3: Direction.HOLD}

class Obedient(Plugin):
    name = "obedient"

    def on_ticker(self, ticker):
        direction = WORDS.get(int(ticker.bid_size))
        if direction is not None:
            yield self.signal(ticker, direction, reason="told so")

PLUGIN = Obedient
'''


class RecordingPublisher:
    """Stamps, encodes and keeps what is put, as the bus would read it back."""

    def __init__(self) -> None:
        self.put_messages: list[tuple[str, Message]] = []
        self.refuses: Exception | None = None

    def put(self, stream: Stream, message: Message) -> str:
        if self.refuses is not None:
            raise self.refuses
        force_setattr(message, "message_id", f"bot.{stream.label}:1:{len(self.put_messages) + 1}")
        self.put_messages.append((stream.name, decode(encode(message))))
        return message.message_id

    def put_many(self, stream: Stream, messages: Any) -> None:
        for message in messages:
            self.put(stream, message)

    async def start(self) -> None: ...

    async def flushed(self) -> None: ...

    async def room(self) -> None: ...

    async def close(self, grace_s: float = 5.0) -> int:
        return 0


class ManualTurns:
    """An event loop that does at once what is due, and whose time passes when a test says so."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def now_s(self) -> float:
        return self.time_s

    def at_end(self, function: Callable[[], None]) -> None:
        function()

    def later(self, delay_s: float, function: Callable[[], None]) -> None:
        self.waiting.append((self.time_s + delay_s, function))

    def pass_time(self, seconds: float) -> None:
        self.time_s += seconds
        due = [function for at_s, function in self.waiting if at_s <= self.time_s]
        self.waiting = [(at_s, function) for at_s, function in self.waiting if at_s > self.time_s]
        for function in due:
            function()


class Bot:
    """One life of a bot in a home directory; `again()` is the next life in the same one."""

    def __init__(self, home: Path, plugins: dict[str, str] | Path, risk: dict[str, Any], settings: dict[str, Any]) -> None:
        self._arguments = (home, plugins, risk, settings)
        folder = plugins if isinstance(plugins, Path) else home / "plugins"
        if isinstance(plugins, dict):
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in plugins.items():
                (folder / name).write_text(text)
        live = {path.stem: {"mode": "live"} for path in folder.rglob("[a-z]*.py")}
        settings = live | {name: live.get(name, {}) | given for name, given in settings.items()}
        self.settings = Settings.model_validate(
            {
                "home": home,
                "bot": {"plugins_dir": folder, "risk": {"cooldown_s": 0, **risk}, "plugins": settings},
                "exchanges": {"binance": {"port": 8001, "symbols": ["BTC/USDT", "ETH-USDT"]}},
            }
        )
        self.now_ns = START_NS
        self.publisher = RecordingPublisher()
        self.workers, self.turns = InProcessWorkers(), ManualTurns()
        self.loop = EventLoop(self.settings, self.publisher, self.workers, lambda: self.now_ns, self.turns)
        self.loop.open()
        self.loop.start()
        self.look()
        self.ticks = 0
        self.trades = 0

    def look(self) -> None:
        """The plugin folder is looked at until nothing changes any more."""

        async def load() -> None:
            for path in self.settings.bot.plugins_dir.rglob("*.py"):
                os.utime(path, (1, zlib.crc32(path.read_bytes()) // 8))  # old enough to be complete, and another for other bytes
            async with asyncio.TaskGroup() as tasks:
                for _ in range(3):
                    await self.loop.lifecycle.load(tasks)
            self.loop.lifecycle._tasks = None  # what is wanted from here on is done by the next look

        asyncio.run(load())

    def again(self) -> Bot:
        """The same home after the process died: nothing is written on the way."""
        self.loop.close()
        bot = Bot(*self._arguments)
        bot.now_ns, bot.ticks, bot.trades = self.now_ns, self.ticks, self.trades
        return bot

    # in

    def instrument(self, symbol: str = "BTC/USDT", **changes: Any) -> None:
        rules: dict[str, Any] = {"price_tick": D("0.01"), "quantity_step": D("0.00001"), "min_quantity": D("0.00001")}
        base, quote = symbol.split("/")
        self.hear(
            Instrument(
                **{
                    "exchange": "binance",
                    "symbol": symbol,
                    "ts_event_ns": None,
                    "ts_recv_ns": self.now_ns,
                    "native_symbol": base + quote,
                    "base": base,
                    "quote": quote,
                    "status": InstrumentStatus.TRADING,
                    "min_notional": D(5),
                    **rules,
                    **changes,
                }
            )
        )

    def ready(self) -> Bot:
        """Rules and money are known."""
        self.instrument("BTC/USDT")
        self.instrument("ETH/USDT")
        self.told(self.balance("USDT", "100000"))
        return self

    def tick(
        self, price: str | int, word: int = 9, symbol: str = "BTC/USDT", crossed: bool = False, spread: str = "0.02"
    ) -> Ticker:
        """A best bid at `price` and an offer above it; `word` tells the obedient plugin what to say."""
        self.ticks += 1
        ticker = Ticker(
            message_id=f"connector.tickers:1:{self.ticks}",
            exchange="binance",
            symbol=symbol,
            ts_event_ns=None,
            ts_recv_ns=self.now_ns,
            bid_price=D(price),
            bid_size=D(word),
            ask_price=D(price) + D(spread),
            ask_size=D(1),
            crossed=crossed,
        )
        self.hear(ticker)
        return ticker

    def control(self, action: ControlAction, target: str | None = None) -> None:
        """An operator's word arrives, and the folder is looked at."""
        self.now_ns += 1
        self.hear(Control(action=action, actor="test", reason="a test", created_at_ns=self.now_ns, target=target))
        self.look()

    def hear(self, message: Any) -> None:
        self.loop.provider.handle("market", message)

    def told(self, *messages: Any) -> None:
        """Account events arrive."""
        asyncio.run(self.loop.account_events.handle([Delivery("account", "1-1", message) for message in messages]))

    def balance(self, asset: str, free: str, locked: str = "0") -> Balance:
        return Balance(
            exchange="binance",
            account="main",
            ts_event_ns=None,
            ts_recv_ns=self.now_ns,
            asset=asset,
            free=D(free),
            locked=D(locked),
        )

    def update(self, command: PlaceOrder, status: OrderStatus, filled: str | Decimal = "0") -> OrderUpdate:
        return OrderUpdate(
            exchange="binance",
            account="main",
            ts_event_ns=None,
            ts_recv_ns=self.now_ns,
            client_order_id=client_order_id(command),
            command_id=command.command_id,
            strategy=command.strategy,
            symbol=command.symbol,
            side=command.side,
            order_type=command.order_type,
            status=status,
            quantity=command.quantity,
            filled_quantity=D(filled),
            filled_quote=D(0),
            revision=1,
        )

    def fill(
        self, command: PlaceOrder, price: str | int, quantity: Decimal | None = None, fee: str | None = None, **changes: Any
    ) -> Fill:
        """An execution with 0.1 % fee in the received asset, unless `fee` says otherwise."""
        self.trades += 1
        quantity = command.quantity if quantity is None else quantity
        base, quote = command.symbol.split("/")
        received, asset = (quantity, base) if command.side is Side.BUY else (quantity * D(price), quote)
        fields: dict[str, Any] = {
            "exchange": "binance",
            "account": "main",
            "ts_event_ns": self.now_ns,
            "ts_recv_ns": self.now_ns,
            "trade_id": str(self.trades),
            "client_order_id": client_order_id(command),
            "exchange_order_id": "7",
            "symbol": command.symbol,
            "side": command.side,
            "price": D(price),
            "quantity": quantity,
            "quote_quantity": quantity * D(price),
            "fee": received * D("0.001") if fee is None else D(fee),
            "fee_asset": asset,
            "liquidity": Liquidity.TAKER,
            "strategy": command.strategy,
        }
        return Fill(**(fields | changes))

    def filled(self, command: PlaceOrder, price: str | int) -> Fill:
        """The order is executed in full; returns the fill."""
        fill = self.fill(command, price)
        self.told(self.update(command, OrderStatus.FILLED, command.quantity), fill)
        return fill

    def closed_candles(self, closes: list[float]) -> list[Candle]:
        """Candles of the configured market that end now."""
        return [
            Candle(**{**{name: getattr(candle, name) for name in candle.__struct_fields__}, "exchange": "binance"})
            for candle in candles(closes, start_ns=self.now_ns - 60 * SECOND_NS * len(closes))
        ]

    # out

    def said(self, kind: type[M]) -> list[M]:
        return [message for _, message in self.publisher.put_messages if isinstance(message, kind)]

    @property
    def orders(self) -> list[PlaceOrder]:
        return self.said(PlaceOrder)

    @property
    def denials(self) -> list[str]:
        """Codes of the denied decisions."""
        return [decision.code for decision in self.said(Decision) if decision.verdict is Verdict.DENIED]

    @property
    def key(self) -> PositionKey:
        return PositionKey("binance", "main", "consensus", "BTC/USDT")

    @property
    def held(self) -> Decimal:
        return self.loop.portfolio.quantity(self.key)

    def bought(self, price: str | int = 50_000) -> Fill:
        """Buy at `price` and see the fill."""
        self.tick(price, word=1)
        return self.filled(self.orders[-1], price)


def client_order_id(command: PlaceOrder) -> str:
    import hashlib

    return "5abcdef0" + hashlib.sha256(command.command_id.encode()).hexdigest()[:24]


MakeBot = Callable[..., Bot]


@pytest.fixture
def make_bot(tmp_path: Path) -> Iterator[MakeBot]:
    """Makes bots in a home of this test's own; by default with the obedient plugin only."""
    made: list[Bot] = []

    def make(plugins: dict[str, str] | Path | None = None, settings: dict[str, Any] | None = None, **risk: Any) -> Bot:
        bot = Bot(tmp_path, {"obedient.py": OBEDIENT} if plugins is None else plugins, risk, settings or {})
        made.append(bot)
        return bot

    yield make
    for bot in made:
        bot.loop.close()


@pytest.fixture
def bot(make_bot: MakeBot) -> Bot:
    """A bot with the obedient plugin that knows its markets and has 100,000 USDT."""
    return make_bot().ready()
