"""The bot through Telegram's troubles: told once, waited out, never hammered, and back by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from alerts.telegram import service
from alerts.telegram.api import TokenRefused
from alerts.telegram.service import open_telegram
from runtime.health import Health
from runtime.service import ServiceError
from runtime.settings import Settings
from tests.support.telegram_bot import Chat, OneAlert, WrittenDown, bot, settings_for
from tests.support.telegram_server import TOKEN, BotApiServer, Fault
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.Backoff, "next_s", lambda self: 0.01)


def healthy(chat: Chat) -> bool:
    return chat.health.components["telegram"].ok


def opened(settings: Settings) -> object:
    return open_telegram(settings, WrittenDown(), OneAlert(), Health("alerts"))


def test_without_a_token_or_switched_off_there_is_no_bot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = BotApiServer()
    monkeypatch.delenv("TELEGRAM_BOT_TOKEN", raising=False)
    assert opened(settings_for(tmp_path, server)) is None
    empty = tmp_path / "empty"
    empty.touch(0o600)
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN_FILE", str(empty))
    assert opened(settings_for(tmp_path, server)) is None
    monkeypatch.delenv("TELEGRAM_BOT_TOKEN_FILE")
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", TOKEN)
    assert opened(settings_for(tmp_path, server, enabled=False)) is None


@pytest.mark.parametrize("token", ["abc", "1:a b", "1:../x", f"{TOKEN}/"])
def test_what_is_no_token_is_refused_without_showing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", token)
    with pytest.raises(ServiceError, match="BotFather") as caught:
        opened(settings_for(tmp_path, BotApiServer()))
    assert token not in str(caught.value).replace("BotFather", "")


def test_a_token_that_others_may_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o644)
    monkeypatch.delenv("TELEGRAM_BOT_TOKEN", raising=False)
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN_FILE", str(file))
    with pytest.raises(ServiceError, match="chmod 600"):
        opened(settings_for(tmp_path, BotApiServer()))


async def test_a_wrong_token_is_told_once_and_not_hammered(server: BotApiServer, tmp_path: Path) -> None:
    async with bot(server, settings_for(tmp_path, server), token="7000001:some_other_token") as chat:
        await eventually(lambda: not healthy(chat))
        assert "TELEGRAM_BOT_TOKEN" in chat.detail
        assert sum(server.calls.values()) == 1
        assert chat.telegram._note_trouble(TokenRefused("again")) >= 300


async def test_another_poller_is_named_and_waited_out(
    server: BotApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "CONFLICT_WAIT_S", 0.05)
    server.faults.append(Fault("getUpdates", 409, "Conflict: terminated by other getUpdates request", times=2))
    async with bot(server, settings_for(tmp_path, server)) as chat:
        await eventually(lambda: "another process takes" in chat.detail)
        assert not healthy(chat)
        server.webhook = "https://example.org/hook"
        await eventually(lambda: "deleteWebhook" in chat.detail)
        server.webhook = ""
        assert (await chat.ask("/ping")).text == "pong"
        assert healthy(chat)


async def test_an_outage_is_survived_and_what_was_said_meanwhile_is_heard(server: BotApiServer, tmp_path: Path) -> None:
    server.faults += [
        Fault(reset=True, times=3),
        Fault(code=502, garbage=b"<html>"),
        Fault(code=500),
        Fault(code=429, retry_after=1),
    ]
    server.say("/ping")
    async with bot(server, settings_for(tmp_path, server)) as chat:
        await eventually(lambda: not healthy(chat))
        assert (await chat.answer(0)).text == "pong"
        await eventually(lambda: healthy(chat))


async def test_an_answer_is_sent_again_when_telegram_asks_to_wait(server: BotApiServer, tmp_path: Path) -> None:
    async with bot(server, settings_for(tmp_path, server)) as chat:
        server.faults += [
            Fault("sendMessage", 429, retry_after=1),
            Fault("sendMessage", 400, "Bad Request: can't parse entities: x"),
        ]
        assert (await chat.ask("/ping")).text == "pong"


async def test_updates_without_an_id_do_not_spin(server: BotApiServer, tmp_path: Path) -> None:
    async with bot(server, settings_for(tmp_path, server)) as chat:
        server._queue[1] = {"update_id": "x"}
        server._queue[2] = {"update_id": 2**40, "message": 5}
        server.push("message", [])
        assert (await chat.ask("/ping")).text == "pong"
        assert server.calls["getUpdates"] < 10


async def test_stopping_does_not_wait_for_the_long_poll(server: BotApiServer, tmp_path: Path) -> None:
    async with bot(server, settings_for(tmp_path, server)):
        await eventually(lambda: server._poll is not None)
    assert server.polled[0]["allowed_updates"] == ["message", "callback_query"]
    assert server.polled[0]["timeout"] == 25
