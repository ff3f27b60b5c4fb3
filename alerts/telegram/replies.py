"""Sending what people shall read: split, escaped, without markup when Telegram cannot parse it, and again when it asks to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from alerts.telegram.answer import Answer
from alerts.telegram.api import BotApi, Button, FloodControl, Refused, TelegramError, Unreachable
from alerts.telegram.markup import Rendered, caption, render

log = structlog.get_logger(__name__)

ATTEMPTS = 3
MAX_WAIT_S = 60.0
UNREACHABLE_WAIT_S = 2.0


class Replies:
    """Answers to people. An alert goes another way, `channel.py`: nobody waits for it, and it must not be lost."""

    def __init__(self, api: BotApi) -> None:
        self.failed = 0
        self._api = api

    async def send(self, chat_id: int, answer: Answer, buttons: Sequence[Button] = ()) -> int:
        """Send an answer; the id of its last message, 0 when it could not be sent, which is counted and logged."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._send(chat_id, answer, buttons)
            except (FloodControl, Unreachable) as error:
                wait_s = error.retry_after_s if isinstance(error, FloodControl) else UNREACHABLE_WAIT_S * attempt
                if attempt == ATTEMPTS or wait_s > MAX_WAIT_S:
                    self._note_failure(chat_id, error)
                    return 0
                await asyncio.sleep(wait_s)
            except TelegramError as error:
                self._note_failure(chat_id, error)
                return 0
        return 0

    async def _send(self, chat_id: int, answer: Answer, buttons: Sequence[Button]) -> int:
        if answer.picture:
            text = "\n".join(line.text for line in answer.lines)
            return await self._api.send_photo(chat_id, answer.picture, caption(text))
        messages = render(answer.lines)
        for message in messages[:-1]:
            await send_rendered(self._api, chat_id, message)
        return await send_rendered(self._api, chat_id, messages[-1], buttons=buttons)

    def _note_failure(self, chat_id: int, error: TelegramError) -> None:
        self.failed += 1
        log.warning("telegram.reply_lost", chat_id=chat_id, reason=str(error))


async def send_rendered(
    api: BotApi, chat_id: int, message: Rendered, *, silent: bool = False, buttons: Sequence[Button] = ()
) -> int:
    """One message with its markup, or plain when Telegram finds fault with the markup; returns its id. Raises TelegramError."""
    try:
        return await api.send_message(chat_id, message.html, html=True, silent=silent, buttons=buttons)
    except Refused as error:
        if not error.unparsable:
            raise
        log.warning("telegram.markup_refused", reason=str(error))
    return await api.send_message(chat_id, message.plain, html=False, silent=silent, buttons=buttons)
