"""Telegram, wired: the channel for alerts and the loop that takes commands, for one bot and the whole fleet."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

import structlog
from pydantic import SecretStr

from alerts.interfaces import AlertDesk
from alerts.telegram.actions import Actions
from alerts.telegram.api import BotApi, BotUser, Conflict, FloodControl, Refused, TelegramError, TokenRefused
from alerts.telegram.channel import TelegramChannel
from alerts.telegram.chart_answers import ChartAnswers
from alerts.telegram.chart_data import Drawer
from alerts.telegram.commands import menu
from alerts.telegram.conversation import OUTCOMES, Conversation
from alerts.telegram.history import History
from alerts.telegram.system_answers import SystemAnswers
from alerts.telegram.task_pool import TaskPool
from alerts.telegram.trading_answers import TradingAnswers
from alerts.telegram.update_log import UpdateLog
from bus.interfaces import Publisher
from runtime.append_log import AppendLogError
from runtime.backoff import Backoff
from runtime.clock import now_ns
from runtime.health import Health
from runtime.metrics import expose_counter
from runtime.secrets import SecretError, optional_secret
from runtime.service import ServiceError
from runtime.settings import Settings

log = structlog.get_logger(__name__)

T = TypeVar("T")

TOKEN = "TELEGRAM_BOT_TOKEN"  # noqa: S105 the name of a variable
TOKEN_FORM = re.compile(r"\d+:[A-Za-z0-9_-]+")
COMPONENT = "telegram"
TOKEN_RETRY_S = 600.0
CONFLICT_WAIT_S = 15.0
IDLE_S = 1.0
MAX_UPDATE_ID = 2**31 - 1  # Telegram counts them in 32 bits
STOP_GRACE_S = 3.0
DOWN_AFTER = 3
"""Failures in a row after which health says that Telegram is away: one lost connection is nothing."""


class Telegram:
    """One bot. `channel` delivers alerts, None without a chat to send to; `run` takes commands."""

    def __init__(
        self,
        api: BotApi,
        channel: TelegramChannel | None,
        conversation: Conversation,
        updates: UpdateLog,
        history: History,
        pool: TaskPool,
        health: Health,
    ) -> None:
        self.channel = channel
        self._api = api
        self._conversation = conversation
        self._updates = updates
        self._history = history
        self._pool = pool
        self._health = health
        self._me: BotUser | None = None
        self._offset = updates.next_offset(now_ns())
        self._failures = 0
        self._trouble = ""
        self._backoff = Backoff(first_s=1.0, cap_s=60.0)
        health.report(COMPONENT, True, "connecting")
        self._expose_metrics()

    async def run(self, stop: asyncio.Event) -> None:
        """Take commands until `stop` is set; trouble with Telegram is waited out and told by health, never raised."""
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                try:
                    found = await _unless(stopping, self._poll())
                except TelegramError as error:
                    wait_s = self._note_trouble(error)
                else:
                    wait_s = await self._handle(found or [])  # not cut short by the stop: a command that began ends
                if wait_s:
                    await asyncio.wait({stopping}, timeout=wait_s)
        finally:
            stopping.cancel()

    async def close(self) -> None:
        """Send what is still to be said, for a moment, and give everything back. The channel is of no use afterwards."""
        await self._pool.close(STOP_GRACE_S)
        self._history.close()
        await self._api.close()
        self._updates.close()

    async def _poll(self) -> list[Any]:
        """Wait for updates; the first time learn who we are, fill the menu, and tell what an earlier process left unfinished."""
        if self._me is None:
            me = await self._api.get_me()
            await self._fill_menu()
            self._conversation.tell_unfinished()
            self._me = me
            log.info("telegram.connected", bot=me.username, offset=self._offset)
        found = await self._api.get_updates(self._offset)
        self._note_success()
        return found

    async def _fill_menu(self) -> None:
        try:
            await self._api.set_my_commands(menu())
        except Refused as error:  # everything else works without it
            log.warning("telegram.no_menu", reason=str(error))

    async def _handle(self, found: list[Any]) -> float:
        """Handle updates in order; returns how long to wait before asking for more."""
        before = self._offset
        for raw in found:
            assert self._me is not None
            await self._conversation.handle(raw, self._me)
            update_id = raw.get("update_id") if isinstance(raw, dict) else None
            if isinstance(update_id, int) and 0 < update_id < MAX_UPDATE_ID:
                self._offset = update_id + 1
        return IDLE_S if found and self._offset == before else 0.0  # an answer that confirms nothing would come again at once

    def _note_success(self) -> None:
        if self._trouble:
            log.info("telegram.back", was=self._trouble)
        self._failures, self._trouble = 0, ""
        self._backoff.reset()
        self._health.report(COMPONENT, True, "")

    def _note_trouble(self, error: TelegramError) -> float:
        """Say it, once for each kind of trouble, and return how long to wait."""
        self._failures += 1
        text = f"another process takes this bot's updates: {error}" if isinstance(error, Conflict) else str(error)
        if text != self._trouble:
            log.warning("telegram.trouble", reason=text)
        self._trouble = text
        grave = isinstance(error, TokenRefused | Conflict)
        self._health.report(COMPONENT, ok=not grave and self._failures < DOWN_AFTER, detail=text)
        match error:
            case TokenRefused():
                return TOKEN_RETRY_S
            case Conflict():
                return CONFLICT_WAIT_S + self._backoff.next_s()
            case FloodControl():
                return error.retry_after_s
        return self._backoff.next_s()

    def _expose_metrics(self) -> None:
        outcomes = self._conversation.outcomes
        for outcome in OUTCOMES:
            read = partial(outcomes.__getitem__, outcome)
            expose_counter("tradebot_telegram_updates", "Updates by what became of them", {"outcome": outcome}, read)
        replies = self._conversation.replies
        expose_counter("tradebot_telegram_replies_lost", "Answers that could not be sent", {}, lambda: replies.failed)


def open_telegram(settings: Settings, publisher: Publisher, desk: AlertDesk, health: Health) -> Telegram | None:
    """Everything about Telegram, not running yet; None when it is switched off or there is no token.

    `publisher` is started by the caller. Raises ServiceError when the token is open to others, or the update log is damaged.
    """
    telegram = settings.alerts.telegram
    token = _read_token() if telegram.enabled else None
    if token is None:
        return None
    try:
        updates = UpdateLog(settings.home / "alerts" / settings.mode.value / "telegram" / "updates.log")
    except (AppendLogError, OSError) as error:
        raise ServiceError(str(error)) from error
    api, history, pool = BotApi(token, telegram.api_url), History(settings), TaskPool()
    trading, system = TradingAnswers(settings, history), SystemAnswers(settings, desk)
    charts = ChartAnswers(settings, history, Drawer(settings.home / "alerts" / "matplotlib"))
    readers = {**trading.readers, **system.readers, "chart": charts.chart}
    conversation = Conversation(telegram, api, updates, Actions(settings, publisher, history), readers, desk, pool)
    channel = TelegramChannel(api, telegram.chat_id) if telegram.chat_id is not None else None
    return Telegram(api, channel, conversation, updates, history, pool, health)


def _read_token() -> SecretStr | None:
    """The token of the bot, None when nobody gave one."""
    try:
        token = optional_secret(TOKEN)
    except SecretError as error:
        raise ServiceError(str(error)) from error
    if token is not None and not TOKEN_FORM.fullmatch(token.get_secret_value()):
        raise ServiceError(f"{TOKEN} is no token of a bot: BotFather gives one like 123456789:AAE...")
    return token


async def _unless(stopping: asyncio.Future[Any], work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None when `stopping` was done first; the work is then cancelled."""
    task = asyncio.ensure_future(work)
    waits: set[asyncio.Future[Any]] = {task, stopping}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
