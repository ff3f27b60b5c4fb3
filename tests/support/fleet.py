"""A running stack as an operator has it: watched by a real Prometheus, whose alerts go to a (local) Telegram."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg

from bus.publisher import StreamPublisher
from bus.streams import Streams
from common_models import OrderType, PlaceOrder, Side
from runtime.clock import now_ns
from runtime.endpoints import bus_url, postgres_url
from tests.support.grafana import View
from tests.support.monitoring_servers import HttpServer, Pace, alertmanager, prometheus, until
from tests.support.stack import Stack
from tests.support.telegram_server import OWNER, BotApiServer

CONNECTOR = "connector-binance"
PACE = Pace()
ALERT_S = 60.0
TRADED_S = 90.0
SEEN_S = 20.0
BEFORE_S = 900  # candles of the past are there at once, and the first of the run closes after a minute only
STEP_S = 5
LIVELY = {
    # ema and bollinger_bands trade within seconds, sma only records what it would do, rsi is switched off
    "TRADEBOT__BOT__PLUGINS": "{ema: {mode: live, settings: {source: ticks, fast_period: 5, slow_period: 20}},"
    " sma: {mode: shadow, settings: {source: ticks, fast_period: 5, slow_period: 20}},"
    " bollinger_bands: {mode: live}, rsi: {mode: off}}",
    "TRADEBOT__BOT__RISK__COOLDOWN_S": "0.3",
    "TRADEBOT__BOT__RISK__MIN_OPINIONS": "1",
    "TRADEBOT__BOT__RISK__CONSENSUS_THRESHOLD": "0.3",
    "TRADEBOT__EXCHANGES__BINANCE__RECONCILE_EVERY_S": "5",
}


@dataclass
class Incident:
    """What came of a connector that was killed while nobody could start it again."""

    killed_s: float
    told_s: float = 0.0
    message: str = ""


@dataclass
class Fleet:
    """The stack and everything around it."""

    stack: Stack
    prometheus: HttpServer
    alertmanager: HttpServer
    telegram: BotApiServer
    began_s: int

    def view(self) -> View:
        """What Grafana would show of the run and the quarter of an hour before it, everything chosen."""
        from_s, now_s = self.began_s - BEFORE_S, int(time.time())
        choices: Mapping[str, Any] = {
            "mode": self.stack.settings.mode.value,
            "venue": ["binance"],
            "pair": ["BTC/USDT", "ETH/USDT"],
            "strategy": ["consensus"],
            "plugin": ["bollinger_bands", "ema", "rsi", "sma"],
        }
        return View(from_s, now_s, STEP_S, 1, choices)

    async def history(self) -> asyncpg.Connection[Any]:
        """A connection as Grafana has it: it may only read, and no schema is given."""
        settings = {"default_transaction_read_only": "on", "search_path": ""}
        return await asyncpg.connect(postgres_url(self.stack.settings), server_settings=settings)

    async def eventful_minute(self) -> None:
        """Trade, be steered, have an order refused and one that rests, lose the venue for a moment: all leave traces."""
        await until(self._traded, TRADED_S, "positions opened and closed")
        for command in ("pause --reason ops", "continue --reason ops", "halt --reason ops", "resume"):
            code, text = await self.stack.run(*command.split())
            assert code == 0, f"tradebot {command}: {text}"
        await self._order(quantity="0.00000001", price="40000")  # less than the venue's smallest: refused
        await self._order(quantity="0.001", price="40000")  # far below the market: rests
        await until(self._refusal_scraped, SEEN_S, "the refused order in Prometheus")
        await self.stack.kill("simulator-binance")

    async def _traded(self) -> bool:
        connection = await self.history()
        try:
            return bool(await connection.fetchval("SELECT count(*) > 2 FROM simulation.round_trips"))
        finally:
            await connection.close()

    async def _refusal_scraped(self) -> bool:
        return bool((await self.prometheus.ask("/api/v1/query", query="tradebot_orders_rejected_total"))["result"])

    async def _order(self, quantity: str, price: str) -> None:
        """Order as a strategy of its own would."""
        settings, created_ns = self.stack.settings, now_ns()
        command = PlaceOrder(
            command_id=hashlib.sha256(f"{created_ns} {quantity}".encode()).hexdigest(),
            exchange="binance",
            account="main",
            strategy="make_test_ops",
            created_at_ns=created_ns,
            expires_at_ns=created_ns + 10_000_000_000,
            symbol="BTC/USDT",
            side=Side.BUY,
            order_type=OrderType.LIMIT,
            quantity=Decimal(quantity),
            price=Decimal(price),
        )
        publisher = StreamPublisher(bus_url(settings), "make-test-ops")
        await publisher.start()
        try:
            publisher.put(Streams(settings.mode.value).commands("binance", "main"), command)
        finally:
            await publisher.close()

    @asynccontextmanager
    async def connector_gone(self) -> AsyncIterator[Incident]:
        """Kill the connector for good, wait for the message about it; afterwards let the supervisor start it again."""
        assert self.stack.process is not None
        victim, supervisor = await self.stack.pid(CONNECTOR), self.stack.process.pid
        before = len(self.telegram.sent)
        os.kill(supervisor, signal.SIGSTOP)  # it would start the connector again within a second
        try:
            os.kill(victim, signal.SIGKILL)
            incident = Incident(killed_s=time.time())

            async def told() -> str:
                return next((text for text in self.telegram.texts[before:] if f"{CONNECTOR} is down" in text), "")

            incident.message = await until(told, ALERT_S, f"a message about {CONNECTOR}", pause_s=0.1)
            incident.told_s = time.time()
            yield incident
        finally:
            os.kill(supervisor, signal.SIGCONT)
        await self.stack.ready()


@asynccontextmanager
async def running_fleet(folder: Path, programs: Mapping[str, str]) -> AsyncIterator[Fleet]:
    """Start everything, and end it whatever happens."""
    began_s = int(time.time())
    async with BotApiServer().running() as telegram:
        told = {
            "TELEGRAM_BOT_TOKEN": telegram.token,
            "TRADEBOT__ALERTS__PORT": "0",
            "TRADEBOT__ALERTS__TELEGRAM__API_URL": telegram.url,
            "TRADEBOT__ALERTS__TELEGRAM__CHAT_ID": str(OWNER),
            "TRADEBOT__ALERTS__TELEGRAM__USERS": f"[{{id: {OWNER}, role: admin}}]",
        }
        stack = Stack(folder / "home", {**LIVELY, **told})
        try:
            await stack.start()
            alerts_port = int((await stack.status())["alerts"]["port"])
            manager = alertmanager(programs["prometheus-alertmanager"], folder / "alertmanager", alerts_port)
            targets = stack.settings.run_dir / "prometheus-targets.json"
            watcher = prometheus(programs["prometheus"], folder / "prometheus", targets, manager.port, PACE)
            with manager.running(), watcher.running():
                await asyncio.gather(manager.ready(), watcher.ready())
                yield Fleet(stack, watcher, manager, telegram, began_s)
        finally:
            await stack.end()
