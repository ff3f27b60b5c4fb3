"""What Telegram says on the bus, in the name of a person, and whether the bus took it."""

from __future__ import annotations

import asyncio
import hashlib
import secrets

import structlog

from bus.connection import Connection
from bus.errors import BufferFull, BusError
from bus.interfaces import Publisher
from bus.streams import Stream, Streams
from common_models import CancelAll, Control, ControlAction, Message
from runtime.clock import now_ns
from runtime.crash_points import crash_point
from runtime.endpoints import NotRunning, bus_url
from runtime.settings import Settings

log = structlog.get_logger(__name__)

CANCEL_TTL_NS = 60_000_000_000
BUS_S = 3.0


class BusWords:
    """Controls and cancels. What the bus does not take in time waits in the publisher until the bus is back."""

    def __init__(self, settings: Settings, publisher: Publisher) -> None:
        self._settings = settings
        self._publisher = publisher
        self._streams = Streams(settings.mode.value)

    async def reachable(self) -> bool:
        """Whether the bus answers now."""
        try:
            (await Connection.open(bus_url(self._settings), name="tradebot-telegram", timeout_s=BUS_S)).close()
        except (BusError, NotRunning) as error:
            log.info("telegram.bus_away", reason=str(error))
            return False
        return True

    async def tell(self, action: ControlAction, actor: str, reason: str, target: str | None = None) -> bool:
        """Say one word to all processes; whether the bus took it in time."""
        message = Control(action=action, actor=actor, reason=reason, created_at_ns=now_ns(), target=target)
        put = self._put(self._streams.control, message)
        crash_point("telegram-published")
        return put and await self._flushed()

    async def cancel_everything(self, actor: str) -> tuple[list[str], bool]:
        """Ask each account's connector to cancel its open orders: the accounts, and whether the bus took it in time."""
        created_ns, asked = now_ns(), []
        for name, exchange in self._settings.exchanges.items():
            if not exchange.enabled:
                continue
            command = CancelAll(
                command_id=hashlib.sha256(secrets.token_bytes(32)).hexdigest(),
                exchange=name,
                account=exchange.account,
                strategy=actor,
                created_at_ns=created_ns,
                expires_at_ns=created_ns + CANCEL_TTL_NS,
            )
            asked.append((f"{name}/{exchange.account}", self._put(self._streams.commands(name, exchange.account), command)))
        taken = await self._flushed()
        crash_point("telegram-cancelled")
        return [account for account, _ in asked], taken and all(put for _, put in asked)

    def _put(self, stream: Stream, message: Message) -> bool:
        try:
            self._publisher.put(stream, message)
        except BufferFull as error:
            log.warning("telegram.bus_takes_nothing", reason=str(error))
            return False
        return True

    async def _flushed(self) -> bool:
        try:
            async with asyncio.timeout(BUS_S):
                await self._publisher.flushed()
        except TimeoutError:
            return False
        return True
