"""Alerts to one chat: the channel `telegram` of the router."""

from __future__ import annotations

from alerts.notification import Notification, RetryLater, Undeliverable
from alerts.telegram.api import BotApi, FloodControl, Refused, TelegramError, TokenRefused
from alerts.telegram.markup import Line, Rendered, bold, plain, render
from alerts.telegram.replies import send_rendered
from alerts.telegram.system_answers import ICONS

NEEDS_A_PERSON_S = 300.0
"""How often a chat is tried that shuts us out, or a token that is refused: often enough once somebody has mended it."""


class TelegramChannel:
    """Sends notifications to one chat. A long one is several messages; a repeat goes on behind the last that was taken."""

    name = "telegram"

    def __init__(self, api: BotApi, chat_id: int) -> None:
        self._api = api
        self._chat_id = chat_id
        self._taken: list[Rendered] = []

    async def deliver(self, notification: Notification) -> None:
        """Return when Telegram has taken all of it; raises RetryLater or Undeliverable."""
        messages = messages_of(notification)
        if messages[: len(self._taken)] != self._taken:
            self._taken = []  # it was something else that was taken in part
        for message in messages[len(self._taken) :]:
            await self._send(message, notification)
            self._taken.append(message)
        self._taken = []

    async def _send(self, message: Rendered, notification: Notification) -> None:
        try:
            await send_rendered(self._api, self._chat_id, message, silent=notification.silent)
        except FloodControl as error:
            raise RetryLater(error.retry_after_s, str(error)) from None
        except TokenRefused as error:
            raise RetryLater(NEEDS_A_PERSON_S, str(error)) from None
        except Refused as error:
            if error.migrated_to:
                reason = f"the group became a supergroup: set alerts.telegram.chat_id to {error.migrated_to}"
                raise RetryLater(NEEDS_A_PERSON_S, reason) from None
            if error.needs_a_person:
                reason = f"{error}: write /start to the bot from chat {self._chat_id}, or set alerts.telegram.chat_id"
                raise RetryLater(NEEDS_A_PERSON_S, reason) from None
            raise Undeliverable(str(error)) from None
        except TelegramError as error:
            raise RetryLater(None, str(error)) from None


def messages_of(notification: Notification) -> list[Rendered]:
    """What is sent: the title with its level, the text, and what acknowledges it, to be tapped."""
    lines = [bold(f"{ICONS[notification.level]} {notification.title}")]
    if notification.text:
        lines.append(Line(notification.text))
    if notification.alert_id:
        lines += plain(f"/ack_{notification.alert_id}")
    return render(lines)
