"""Our Telegram side against the local Bot API server, with a bus that only writes down what it is given."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest import mock

from alerts.alert_state import AlertPhase, AlertState
from alerts.interfaces import NoSuchAlert
from alerts.telegram.service import Telegram, open_telegram
from bus.streams import Stream
from common_models import AlertLevel, Control, Message
from runtime.endpoints import write_private
from runtime.health import Health
from runtime.settings import AlertsSettings, ExchangeSettings, Settings, TelegramSettings, TelegramUser
from tests.support.telegram_server import OWNER, BotApiServer, Sent
from tests.support.waiting import eventually

VIEWER, TRADER, ADMIN = 601, 602, OWNER
USERS = (
    TelegramUser(id=ADMIN, role="admin"),
    TelegramUser(id=TRADER, role="trader"),
    TelegramUser(id=VIEWER, role="viewer"),
)


class WrittenDown:
    """A publisher whose bus takes everything; `messages` are what was put, in order."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.away = False

    async def start(self) -> None:
        return

    def put(self, stream: Stream, message: Message) -> str:
        self.messages.append(message)
        return "written:1:1"

    def put_many(self, stream: Stream, messages: Any) -> None:
        self.messages.extend(messages)

    async def flushed(self) -> None:
        if self.away:
            await asyncio.Event().wait()

    async def room(self) -> None:
        return

    async def close(self, grace_s: float = 5.0) -> int:
        return 0

    @property
    def said(self) -> list[str]:
        """The actions of the controls."""
        return [message.action.value for message in self.messages if isinstance(message, Control)]


class OneAlert:
    """A desk with the alert k3f9."""

    def __init__(self) -> None:
        self.state = AlertState(
            alert_id="k3f9", key="k", level=AlertLevel.ERROR, category="orders", source="bot", code="ORDER_UNKNOWN",
            event="order", title="An order is UNKNOWN <b>", text="", first_ns=1_795_000_000_000_000_000, last_ns=1_795_000_060_000_000_000,
        )  # fmt: skip

    def active(self, limit: int = 50) -> list[AlertState]:
        return [] if self.state.phase is AlertPhase.RESOLVED else [self.state]

    def acknowledge(self, alert_id: str, by: str) -> AlertState:
        return self._change(alert_id, by, AlertPhase.ACKNOWLEDGED)

    def resolve(self, alert_id: str, by: str) -> AlertState:
        return self._change(alert_id, by, AlertPhase.RESOLVED)

    def _change(self, alert_id: str, by: str, phase: AlertPhase) -> AlertState:
        if alert_id != self.state.alert_id:
            raise NoSuchAlert(alert_id)
        self.state.phase, self.state.changed_by = phase, by
        return self.state


class Chat:
    """A running bot, and the people who write to it."""

    def __init__(self, server: BotApiServer, settings: Settings, publisher: WrittenDown) -> None:
        self.server = server
        self.settings = settings
        self.publisher = publisher
        self.desk = OneAlert()
        self.health = Health("alerts")
        self.telegram: Telegram

    async def ask(self, text: str, user: int = ADMIN, chat: int | None = None, **fields: Any) -> Sent:
        """Say something and return the next message of the bot."""
        known = len(self.server.sent)
        self.server.say(text, user, chat, **fields)
        return await self.answer(known)

    async def answer(self, known: int) -> Sent:
        """The message after the first `known` ones."""
        await eventually(lambda: len(self.server.sent) > known, what="an answer")
        return self.server.sent[known]

    async def settled(self) -> None:
        """Wait until everything that was said has been handled."""
        await eventually(lambda: self.server.pending == 0, what="every update confirmed")

    @property
    def outcomes(self) -> dict[str, int]:
        return {name: count for name, count in self.telegram._conversation.outcomes.items() if count}

    @property
    def detail(self) -> str:
        return self.health.components["telegram"].detail


def settings_for(home: Path, server: BotApiServer, mode: str = "simulation", **telegram: Any) -> Settings:
    """A configuration with one exchange and three users whose bot lives at the local server."""
    configured = TelegramSettings(**{"chat_id": OWNER, "users": USERS, "api_url": server.url, **telegram})
    alerts = AlertsSettings(telegram=configured)
    return Settings.model_validate(
        {"mode": mode, "home": home, "alerts": alerts, "exchanges": {"binance": ExchangeSettings(port=0)}}
    )


@contextlib.asynccontextmanager
async def bot(
    server: BotApiServer, settings: Settings, publisher: WrittenDown | None = None, token: str = ""
) -> AsyncIterator[Chat]:
    """Our side, running until the block ends, beside a connector on the same home."""
    write_private(settings.run_dir / "connector-binance.port", "9")
    server.chats |= {VIEWER, TRADER, ADMIN}
    chat = Chat(server, settings, publisher or WrittenDown())
    with mock.patch.dict(os.environ, {"TELEGRAM_BOT_TOKEN": token or server.token}):
        telegram = open_telegram(settings, chat.publisher, chat.desk, chat.health)
    assert telegram is not None
    chat.telegram = telegram
    stop = asyncio.Event()
    task = asyncio.create_task(telegram.run(stop))
    try:
        yield chat
    finally:
        stop.set()
        await task
        await telegram.close()
