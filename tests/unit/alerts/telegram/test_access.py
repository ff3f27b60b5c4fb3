"""The allow-list, and how strangers show in the log."""

from __future__ import annotations

from typing import Any

import pytest

from alerts.telegram import access
from alerts.telegram.access import TELL_EVERY_S, TOLD, Access, Role
from alerts.telegram.updates import Sender
from runtime.settings import TelegramSettings, TelegramUser

USERS = (TelegramUser(id=1, role="admin"), TelegramUser(id=2))


class Names:
    """What is logged."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def warning(self, event: str, **context: Any) -> None:
        self.lines.append(context)


def test_no_users_means_nobody() -> None:
    assert Access(TelegramSettings()).role_of(Sender(1, 1, True)) is None


@pytest.mark.parametrize(
    ("chats", "sender", "role"),
    [
        ((), Sender(1, 1, True), Role.ADMIN),
        ((), Sender(2, 2, True), Role.VIEWER),
        ((), Sender(1, -5, False), None),
        ((), Sender(3, 3, True), None),
        ((-5,), Sender(1, -5, False), Role.ADMIN),
        ((-5,), Sender(1, 1, True), None),
        ((-5, 1), Sender(1, 1, True), Role.ADMIN),
        ((-5,), Sender(3, -5, False), None),
    ],
)
def test_user_and_chat_must_both_be_listed(chats: tuple[int, ...], sender: Sender, role: Role | None) -> None:
    assert Access(TelegramSettings(users=USERS, chats=chats)).role_of(sender) is role


def test_the_log_names_each_stranger_now_and_then_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Names()
    monkeypatch.setattr(access, "log", log)
    now_s = 0.0
    guard = Access(TelegramSettings(users=USERS), clock=lambda: now_s)
    for _ in range(100):
        guard.role_of(Sender(9, 9, True))
    assert [(line["user_id"], line["chat_id"]) for line in log.lines] == [(9, 9)]
    now_s = TELL_EVERY_S + 1
    guard.role_of(Sender(9, 9, True))
    assert len(log.lines) == 2
    for stranger in range(1_000, 2_000):
        guard.role_of(Sender(stranger, stranger, True))
    assert len(log.lines) <= 1 + TOLD
    assert guard.refused == 1_101
