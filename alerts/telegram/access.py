"""Who may say what: numeric user and chat ids, three roles, and no by default (reference/faults.md T01)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import structlog

from alerts.telegram.updates import Sender
from runtime.clock import monotonic_s
from runtime.settings import TelegramSettings

log = structlog.get_logger(__name__)

TELL_EVERY_S = 600.0
"""How often one stranger is named in the log."""

TOLD = 50
"""So many strangers are named within that time at most: there are many."""


class Role(IntEnum):
    """What a person may do; each role may what the ones below it may."""

    VIEWER = 1
    TRADER = 2
    ADMIN = 3

    @property
    def label(self) -> str:
        return self.name.lower()


class Access:
    """The allow-list. Strangers are counted in `refused`; the log names them now and then, so that the owner can add them."""

    def __init__(self, settings: TelegramSettings, clock: Callable[[], float] = monotonic_s) -> None:
        self.refused = 0
        self._roles = {user.id: Role[user.role.upper()] for user in settings.users}
        self._chats = frozenset(settings.chats)
        self._clock = clock
        self._told: dict[int, float] = {}

    def role_of(self, sender: Sender) -> Role | None:
        """The role of a sender in a chat; None for everybody who is not on the list, or elsewhere than where they may speak."""
        role = self._roles.get(sender.user_id)
        here = sender.chat_id in self._chats if self._chats else sender.private
        if role is None or not here:
            self._refuse(sender, known=role is not None)
            return None
        return role

    def _refuse(self, sender: Sender, *, known: bool) -> None:
        self.refused += 1
        now_s = self._clock()
        self._told = {user_id: at_s for user_id, at_s in self._told.items() if now_s - at_s < TELL_EVERY_S}
        if sender.user_id in self._told or len(self._told) >= TOLD:
            return
        self._told[sender.user_id] = now_s
        advice = "the chat is not in alerts.telegram.chats" if known else "the user is not in alerts.telegram.users"
        log.warning("telegram.refused", user_id=sender.user_id, chat_id=sender.chat_id, reason=advice, refused=self.refused)
