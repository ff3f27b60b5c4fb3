"""A webhook of one's own: the notification as JSON, documented in docs/alerts.md."""

from __future__ import annotations

from datetime import UTC, datetime

from alerts.channels.guarded_post import GuardedPost
from alerts.notification import Notification

NAME = "webhook"
VERSION = 1


class Webhook:
    """Posts every field of the notification."""

    name = NAME

    def __init__(self, post: GuardedPost) -> None:
        self._post = post

    async def deliver(self, notification: Notification) -> None:
        seconds, nanoseconds = divmod(notification.created_ns, 1_000_000_000)
        time = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000).isoformat()
        await self._post.post(
            {
                "version": VERSION,
                "number": notification.number,
                "level": notification.level,
                "event": notification.event,
                "title": notification.title,
                "text": notification.text,
                "silent": notification.silent,
                "key": notification.key,
                "alert_id": notification.alert_id,
                "time": time,
            }
        )

    async def close(self) -> None:
        await self._post.close()
