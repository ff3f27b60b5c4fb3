"""Every way in which the Bot API fails becomes one of our errors, and none of them, nor any log, shows the token."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from alerts.telegram import api as api_module
from alerts.telegram.api import BotApi, Conflict, FloodControl, Refused, TelegramError, TokenRefused, Unreachable
from runtime.logs import setup_logging
from runtime.settings import LogSettings
from tests.support.telegram_markup import shown_html
from tests.support.telegram_server import OWNER, BotApiServer, Fault
from tests.support.waiting import eventually

CANARY = "7000001:CANARY_token-that_must_never_show"
FORMS = (
    CANARY,
    CANARY.partition(":")[2],
    quote(CANARY, safe=""),
    base64.b64encode(CANARY.encode()).decode(),
    CANARY.encode().hex(),
)


@pytest.fixture
async def api(server: BotApiServer) -> AsyncIterator[BotApi]:
    made = BotApi(SecretStr(server.token), server.url)
    yield made
    await made.close()


async def test_what_is_sent_arrives_as_people_read_it(api: BotApi, server: BotApiServer) -> None:
    assert (await api.get_me()).username == server.username
    message_id = await api.send_message(OWNER, "<b>a &lt; b</b> 🚨", html=True, silent=True, buttons=[("yes", "yes:1")])
    (sent,) = server.sent
    assert (sent.message_id, sent.text, sent.silent) == (message_id, "a < b 🚨", True)
    assert sent.buttons == [{"text": "yes", "callback_data": "yes:1"}]
    await api.send_photo(OWNER, b"\x89PNG....", "a caption")
    assert (server.sent[1].photo, server.sent[1].text) == (b"\x89PNG....", "a caption")
    await api.set_my_commands({"status": "how it goes"})
    assert server.commands == [{"command": "status", "description": "how it goes"}]


async def test_half_characters_do_not_stop_a_message(api: BotApi, server: BotApiServer) -> None:
    with pytest.raises(TelegramError):
        await api.send_message(OWNER, "", html=False)
    await api.send_message(OWNER, "half \ud83d", html=False)
    assert len(server.sent) == 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(code=500), Unreachable),
        (Fault(code=502, garbage=b"<html>bad gateway</html>"), Unreachable),
        (Fault(garbage=b"{"), Unreachable),
        (Fault(garbage=b'{"ok": "yes"}'), Unreachable),
        (Fault(garbage=b'{"ok": true, "result": "?"}'), Unreachable),
        (Fault(garbage=b"[" * 100_000), Unreachable),
        (Fault(garbage=b"\xff\xfe"), Unreachable),
        (Fault(code=302, garbage=b"moved"), Unreachable),
        (Fault(reset=True), Unreachable),
        (Fault(hang=True), Unreachable),
        (Fault(code=429, retry_after=7), FloodControl),
        (Fault(code=400, description="Bad Request: chat not found"), Refused),
        (Fault(code=403, description="Forbidden: bot was blocked by the user"), Refused),
        (Fault(code=401, description="Unauthorized"), TokenRefused),
        (Fault(code=404, description="Not Found"), TokenRefused),
        (Fault(code=409, description="Conflict: terminated by other getUpdates request"), Conflict),
    ],
)
async def test_each_failure_says_what_may_be_done(
    server: BotApiServer, fault: Fault, expected: type[TelegramError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module.BotApi._call, "__defaults__", (0.3,))
    api = BotApi(SecretStr(server.token), server.url)
    server.faults.append(fault)
    try:
        with pytest.raises(expected) as caught:
            await api.get_me()
        assert server.token not in str(caught.value)
        if isinstance(caught.value, FloodControl):
            assert caught.value.retry_after_s == 7
        assert (await api.get_me()).id == server.bot_id, "and the next call is answered"
    finally:
        await api.close()


async def test_the_token_shows_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All failures, logged with their traces and every local variable in reach, at the most talkative level."""
    monkeypatch.setattr(api_module.BotApi._call, "__defaults__", (0.2,))
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    setup_logging("alerts", LogSettings(level="DEBUG", console="json"), tmp_path)
    heard = io.StringIO()
    root.addHandler(logging.StreamHandler(heard))
    for name in ("aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    shown: list[str] = []
    faults = [Fault(code=500), Fault(garbage=b"{"), Fault(reset=True), Fault(hang=True), Fault(code=429, retry_after=1),
              Fault(code=400, description=f"Bad Request: /bot{CANARY}/getMe"), Fault(code=404, description=CANARY), Fault(code=409)]  # fmt: skip
    try:
        async with BotApiServer(CANARY).running() as server:
            calls = [(server.url, fault) for fault in faults]
            calls += [("http://127.0.0.1:9", None), ("http://no.such.host.invalid", None), ("http://[", None), ("ftp://x", None)]
            for url, fault in calls:
                server.faults[:] = [fault] if fault else []
                api = BotApi(SecretStr(CANARY), url)
                try:
                    await api.get_me()
                except TelegramError as error:
                    logging.getLogger("test").exception("failed")
                    shown += [repr(error), repr(api), repr(error.__cause__), repr(error.__context__)]
                    ours = error.__traceback__ and error.__traceback__.tb_next  # this test's own variables hold it, of course
                    shown += traceback.TracebackException(type(error), error, ours, capture_locals=True).format()
                else:
                    raise AssertionError(f"{url} {fault} did not fail")
                finally:
                    await api.close()
    finally:
        asyncio.get_running_loop().set_debug(False)
        root.handlers[:], root.level = before, level
    text = "".join(shown) + heard.getvalue() + (tmp_path / "alerts.log").read_text()
    assert "failed" in text
    for form in FORMS:
        assert form not in text


@pytest.mark.parametrize("markup", ["<b>", "<b></i>", "</b>", "a < b", "<script>x</script>", "<b><i></b></i>"])
async def test_the_local_server_refuses_bad_markup_as_telegram_does(api: BotApi, server: BotApiServer, markup: str) -> None:
    with pytest.raises(Refused) as caught:
        await api.send_message(OWNER, markup, html=True)
    assert caught.value.unparsable
    assert server.sent == []


def test_the_local_server_reads_markup_as_telegram_does() -> None:
    assert shown_html("<b>x</b> &lt;y&gt; &amp;amp; &copy; <pre>a\nb</pre>") == "x <y> &amp; &copy; a\nb"


async def test_two_pollers_end_the_first_ones_wait(api: BotApi, server: BotApiServer) -> None:
    first = asyncio.create_task(api.get_updates(0, wait_s=5))
    await eventually(lambda: server.polled)
    await eventually(lambda: server._poll is not None)
    second = asyncio.create_task(api.get_updates(0, wait_s=5))
    with pytest.raises(Conflict):
        await first
    server.say("hello")
    assert len(await second) == 1
