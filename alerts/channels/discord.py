"""Discord by an incoming webhook: one embed a message, coloured by level, which mentions nobody.

Execute Webhook takes embeds with a title of 256 and a description of 4096 characters, `allowed_mentions` and message flags, of
which 4096 is SUPPRESS_NOTIFICATIONS; it answers 204, or 429 with Retry-After in seconds.
Source: https://discord.com/developers/docs/resources/webhook#execute-webhook
"""

from __future__ import annotations

from alerts.channels.guarded_post import GuardedPost
from alerts.figures import shortened
from alerts.notification import Notification
from common_models import AlertLevel

NAME = "discord"
MAX_TITLE, MAX_DESCRIPTION = 256, 4096
SUPPRESS_NOTIFICATIONS = 1 << 12
COLOURS = {
    AlertLevel.INFO: 0x3498DB,
    AlertLevel.WARNING: 0xF1C40F,
    AlertLevel.ERROR: 0xE67E22,
    AlertLevel.CRITICAL: 0xE74C3C,
}
_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\*_~`|>[]#"})


class Discord:
    name = NAME

    def __init__(self, post: GuardedPost) -> None:
        self._post = post

    async def deliver(self, notification: Notification) -> None:
        embed: dict[str, object] = {
            "title": shortened(plain(f"{notification.level.upper()} {notification.title}"), MAX_TITLE),
            "color": COLOURS[notification.level],
        }
        lines = [plain(notification.text)]
        if notification.alert_id:
            lines.append(f"`tradebot alert ack {notification.alert_id}`")
        if description := "\n".join(filter(None, lines)):
            embed["description"] = shortened(description, MAX_DESCRIPTION)
        body: dict[str, object] = {"embeds": [embed], "allowed_mentions": {"parse": []}}
        if notification.silent:
            body["flags"] = SUPPRESS_NOTIFICATIONS
        await self._post.post(body)

    async def close(self) -> None:
        await self._post.close()


def plain(text: str) -> str:
    """The text with Discord's marks taken at their word."""
    return text.translate(_MARKS)
