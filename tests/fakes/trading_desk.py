"""One account run by the real connector code against a scripted Binance and a real Valkey, with someone to give it commands."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from bus.connection import Connection
from bus.consumer import StreamConsumer
from bus.publisher import StreamPublisher
from bus.reader import TailReader
from bus.streams import Stream, Streams
from common_models import (
    Alert,
    AnyCommand,
    AnyMessage,
    Balance,
    CancelAll,
    CancelOrder,
    ConnectorStatus,
    Fill,
    Instrument,
    InstrumentStatus,
    OrderType,
    OrderUpdate,
    PlaceOrder,
    Side,
)
from connectors.account import Account, AccountContext
from connectors.client_order_id import ClientOrderIds, installation_id
from connectors.exchanges.binance.account import BinanceAccount
from connectors.exchanges.binance.error_codes import read_error
from connectors.exchanges.binance.signing import BinanceSigner
from connectors.journal import Journal
from connectors.rate_budget import RateBudget
from connectors.reconcile import ProofRules
from connectors.rest import RestClient
from connectors.venue_clock import VenueClock
from runtime.clock import now_ns
from runtime.health import Health
from runtime.settings import ExchangeSettings, Mode, Settings
from tests.support.waiting import eventually

QUICK_PROOF = ProofRules(
    read_lag_s=0.1, rounds=3, span_s=0.1, answer_s=1.0, poll_s=0.02, ask_first_s=0.02, ask_cap_s=0.1, fills_after_s=0.02
)
_numbers = itertools.count(1)

BTC = Instrument(
    exchange="binance",
    symbol="BTC/USDT",
    ts_event_ns=None,
    ts_recv_ns=0,
    native_symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    status=InstrumentStatus.TRADING,
    price_tick=Decimal("0.01"),
    quantity_step=Decimal("0.00001"),
    min_quantity=Decimal("0.00001"),
    max_quantity=Decimal(1000),
    min_notional=Decimal(5),
)


def new_account() -> str:
    """An account name that no other test uses: its streams and lease are its own."""
    return f"t{os.getpid()}_{next(_numbers)}"


@dataclass
class Desk:
    """Gives commands to one account and remembers what came back."""

    home: Path
    url: str
    venue: Any  # FakeBinance, or anything with the two URLs
    account: str = field(default_factory=new_account)
    recv_window_ms: int = 500
    settle_s: float = 0.2
    answer_timeout_s: float = 0.5
    rules: ProofRules = QUICK_PROOF
    instruments: Mapping[str, Instrument] = field(default_factory=lambda: {"BTC/USDT": BTC})
    messages: list[AnyMessage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.streams = Streams("simulation")
        self.ids = ClientOrderIds(Mode.SIMULATION, installation_id(self.home))
        self.health = Health("test")
        self.running: Account | None = None
        self._count = itertools.count(1)

    # commands

    def order(self, **changes: Any) -> PlaceOrder:
        """A limit order that rests, unless changed."""
        fields: dict[str, Any] = {
            "command_id": hashlib.sha256(f"{self.account}-{next(self._count)}".encode()).hexdigest(),
            "exchange": "binance",
            "account": self.account,
            "strategy": "test",
            "created_at_ns": now_ns(),
            "expires_at_ns": now_ns() + 5_000_000_000,
            "symbol": "BTC/USDT",
            "side": Side.BUY,
            "order_type": OrderType.LIMIT,
            "quantity": Decimal("1"),
            "price": Decimal("100"),
        }
        return PlaceOrder(**(fields | changes))

    def cancel(self, order: PlaceOrder) -> CancelOrder:
        base = self.order()
        return CancelOrder(
            command_id=base.command_id, exchange="binance", account=self.account, strategy="test", created_at_ns=base.created_at_ns,
            expires_at_ns=base.expires_at_ns, symbol=order.symbol, client_order_id=self.id_of(order),
        )  # fmt: skip

    def cancel_all(self) -> CancelAll:
        base = self.order()
        return CancelAll(
            command_id=base.command_id, exchange="binance", account=self.account, strategy="test",
            created_at_ns=base.created_at_ns, expires_at_ns=base.expires_at_ns,
        )  # fmt: skip

    async def give(self, *commands: AnyCommand) -> None:
        """Put commands on the bus, as the bot does."""
        publisher = StreamPublisher(self.url, f"bot-{self.account}-{next(_numbers)}")
        await publisher.start()
        publisher.put_many(self.streams.commands("binance", self.account), commands)
        await publisher.flushed()
        await publisher.close()

    def id_of(self, command: PlaceOrder) -> str:
        return self.ids.of(command.command_id)

    # what came back

    def updates(self, command: PlaceOrder) -> list[OrderUpdate]:
        return [m for m in self.messages if isinstance(m, OrderUpdate) and m.client_order_id == self.id_of(command)]

    def last(self, command: PlaceOrder) -> OrderUpdate | None:
        updates = self.updates(command)
        return max(updates, key=lambda update: update.revision) if updates else None

    def status(self, command: PlaceOrder) -> str:
        update = self.last(command)
        return update.status.value if update else ""

    async def reaches(self, command: PlaceOrder, *statuses: str, timeout_s: float = 10.0) -> OrderUpdate:
        """Wait until the order's newest state is one of `statuses`."""
        await eventually(lambda: self.status(command) in statuses, timeout_s, f"an order that is one of {statuses}")
        update = self.last(command)
        assert update is not None
        return update

    def fills(self) -> dict[str, Fill]:
        """Fills by trade id: copies count once, as for every consumer."""
        return {m.trade_id: m for m in self.messages if isinstance(m, Fill)}

    def alerts(self) -> list[str]:
        return [m.code for m in self.messages if isinstance(m, Alert)]

    def balances(self) -> dict[str, Balance]:
        return {m.asset: m for m in self.messages if isinstance(m, Balance)}

    def statuses(self, leg: str) -> list[ConnectorStatus]:
        return [m for m in self.messages if isinstance(m, ConnectorStatus) and m.leg == leg]

    def journal_text(self) -> str:
        return self.journal_path.read_text()

    @property
    def journal_path(self) -> Path:
        return self.home / "journal" / "simulation" / f"binance-{self.account}.journal"

    @property
    def journal(self) -> Journal:
        assert self.running is not None
        return self.running._journal

    @property
    def passes(self) -> int:
        """Complete comparisons with the venue so far."""
        assert self.running is not None
        return self.running._reconciler.passes

    # the connector

    @contextlib.asynccontextmanager
    async def serving(self, *, ready: bool = True) -> AsyncIterator[Desk]:
        """Run the account as the connector's service does."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks, self.listening():
            task = tasks.create_task(self.run(stop))
            try:
                if ready:
                    await eventually(lambda: self.running is not None and self.ready, what="a serving account")
                yield self
            finally:
                stop.set()
                await asyncio.wait({task}, timeout=15)
                self.running = None

    @property
    def ready(self) -> bool:
        component = self.health.components.get("reconciled")
        return component is not None and component.ok

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        streams: list[Stream] = [
            self.streams.account("binance", self.account, kind) for kind in ("orders", "fills", "balances", "status")
        ]
        streams.append(self.streams.alerts)
        over = asyncio.Event()
        reader = TailReader(
            self.url, streams, {stream.name: "0" for stream in streams[:-1]} | {streams[-1].name: "$"}, block_ms=100
        )
        task = asyncio.create_task(reader.run(lambda _, message: self.messages.append(message), over))
        try:
            yield
        finally:
            over.set()
            await task

    async def run(self, stop: asyncio.Event) -> None:
        budget, clock = RateBudget(6000), VenueClock()
        signer = BinanceSigner("simulator", "simulator", clock, self.recv_window_ms)
        publisher = StreamPublisher(self.url, f"connector-{self.account}")
        await publisher.start()
        exchange_settings = ExchangeSettings(port=0, account=self.account, journal_fsync=False)
        rest = RestClient(self.venue.rest_url, budget, read_error=read_error, signer=signer, timeout_s=self.answer_timeout_s)
        async with rest:
            entry = BinanceAccount(
                rest,
                self.venue.ws_api_url,
                budget,
                signer,
                clock,
                lambda: {"BTC/USDT": BTC},
                answer_timeout_s=self.answer_timeout_s,
            )
            entry.settle_s = self.settle_s
            context = AccountContext(
                settings=Settings(home=self.home),
                exchange="binance",
                exchange_settings=exchange_settings,
                entry=entry,
                budget=budget,
                instruments=lambda: self.instruments,
                streams=self.streams,
                publisher=publisher,
                commands=StreamConsumer(
                    self.url, [self.streams.commands("binance", self.account)], "connector", "connector-binance", block_ms=100
                ),
                control=TailReader(self.url, [self.streams.control], "0", block_ms=100),
                open_bus=lambda: Connection.open(self.url),
                health=self.health,
                rules=self.rules,
            )
            try:
                self.running = Account(context)
                try:
                    await self.running.run(stop)
                finally:
                    await self.running.close()
            finally:
                await publisher.close(2.0)
