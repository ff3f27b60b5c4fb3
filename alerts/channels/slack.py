"""Slack by an incoming webhook: a header line and the text, as plain words.

Incoming webhooks take `text` (up to 40,000 characters) and blocks, in whose sections 3,000 characters fit; `&`, `<` and `>` must be
written as entities. One message a second is allowed, beyond that 429 with Retry-After in seconds.
Sources: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks, https://docs.slack.dev/apis/web-api/rate-limits
"""

from __future__ import annotations

from alerts.channels.guarded_post import GuardedPost
from alerts.notification import Notification

NAME = "slack"
MAX_SECTION = 3000
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Slack:
    name = NAME

    def __init__(self, post: GuardedPost) -> None:
        self._post = post

    async def deliver(self, notification: Notification) -> None:
        title = f"{notification.level.upper()} {notification.title}"
        lines = [title, notification.text, f"tradebot alert ack {notification.alert_id}" if notification.alert_id else ""]
        text = escaped("\n".join(filter(None, lines)), MAX_SECTION)
        section = {"type": "section", "text": {"type": "plain_text", "text": text, "emoji": False}}
        await self._post.post({"text": escaped(title, MAX_SECTION), "blocks": [section]})

    async def close(self) -> None:
        await self._post.close()


def escaped(text: str, most: int) -> str:
    """The text with Slack's marks as entities, at most `most` characters long and never cut inside an entity."""
    whole = text.translate(_ENTITIES)
    if len(whole) <= most:
        return whole
    cut = whole[: most - 4]
    entity = cut.rfind("&")
    if entity > len(cut) - 5 and ";" not in cut[entity:]:
        cut = cut[:entity]
    return f"{cut} ..."
