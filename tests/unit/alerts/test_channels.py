"""Webhook, Discord and Slack against a local server: what they send, what they make of answers, where they refuse to go."""

from __future__ import annotations

import socket
import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from alerts.channels.discord import MAX_DESCRIPTION, MAX_TITLE, Discord
from alerts.channels.guarded_post import BadAddress, GuardedPost, is_public
from alerts.channels.opening import HttpChannel, open_channels
from alerts.channels.slack import MAX_SECTION, Slack, escaped
from alerts.channels.webhook import Webhook
from alerts.notification import Notification, RetryLater, Undeliverable
from common_models import AlertLevel
from runtime.service import ServiceError
from runtime.settings import AlertsSettings
from tests.fakes.webhook_receiver import CANARY, Answer, WebhookReceiver

KINDS = (Webhook, Discord, Slack)


def notification(**changes: Any) -> Notification:
    fields: dict[str, Any] = {
        "number": 7,
        "level": AlertLevel.CRITICAL,
        "event": "doom",
        "title": "It burns",
        "text": "everywhere\n<b>&*_",
        "silent": False,
        "key": "DOOM|",
        "alert_id": "k3fd",
        "created_ns": 1_763_733_600_123_456_789,
    }
    return Notification(**(fields | changes))


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver().running() as running:
        yield running


def channel(kind: type[HttpChannel], url: str, *, private: bool = True, timeout_s: float = 5.0) -> HttpChannel:
    return kind(GuardedPost(kind.name, SecretStr(url), private_addresses=private, timeout_s=timeout_s))


async def sent(kind: type[HttpChannel], receiver: WebhookReceiver, **changes: Any) -> dict[str, Any]:
    opened = channel(kind, receiver.url)
    await opened.deliver(notification(**changes))
    await opened.close()
    return receiver.bodies[-1]


async def test_a_webhook_gets_every_field(receiver: WebhookReceiver) -> None:
    assert await sent(Webhook, receiver) == {
        "version": 1,
        "number": 7,
        "level": "critical",
        "event": "doom",
        "title": "It burns",
        "text": "everywhere\n<b>&*_",
        "silent": False,
        "key": "DOOM|",
        "alert_id": "k3fd",
        "time": "2025-11-21T14:00:00.123456+00:00",
    }


async def test_discord_gets_one_embed_that_mentions_nobody_within_its_limits(receiver: WebhookReceiver) -> None:
    body = await sent(Discord, receiver, title="@everyone " * 50, text="*_`\\" * 3000, silent=True)
    [embed] = body["embeds"]
    assert body["allowed_mentions"] == {"parse": []}
    assert body["flags"] == 4096
    assert len(embed["title"]) <= MAX_TITLE
    assert len(embed["description"]) <= MAX_DESCRIPTION
    assert "flags" not in await sent(Discord, receiver)


async def test_slack_gets_plain_words_within_its_limits(receiver: WebhookReceiver) -> None:
    body = await sent(Slack, receiver, text="<!channel> & <https://evil.example|bank>" * 200)
    [block] = body["blocks"]
    assert block["text"]["type"] == "plain_text"
    assert "<" not in block["text"]["text"]
    assert len(block["text"]["text"]) <= MAX_SECTION


@given(text=st.text(alphabet="ab&<>;", max_size=300), most=st.integers(20, 100))
def test_text_for_slack_is_never_cut_inside_an_entity(text: str, most: int) -> None:
    cut = escaped(text, most)
    assert len(cut) <= most
    for part in cut.removesuffix(" ...").split("&")[1:]:
        assert part.startswith(("amp;", "lt;", "gt;"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("answer", "error", "after_s"),
    [
        (Answer(429, {"Retry-After": "17"}), RetryLater, 17.0),
        (Answer(429, {"Retry-After": "soon"}), RetryLater, None),
        (Answer(429, {"Retry-After": "1e300"}), RetryLater, 3600.0),
        (Answer(503), RetryLater, None),
        (Answer(404), Undeliverable, None),
        (Answer(302, {"Location": "http://127.0.0.1:6379/"}), Undeliverable, None),
    ],
)
async def test_answers_say_whether_to_try_again_and_when(
    kind: type[HttpChannel], answer: Answer, error: type[Exception], after_s: float | None, receiver: WebhookReceiver
) -> None:
    receiver.answers.append(answer)
    opened = channel(kind, receiver.url)
    with pytest.raises(error) as raised:
        await opened.deliver(notification())
    await opened.close()
    assert getattr(raised.value, "after_s", None) == after_s
    assert len(receiver.requests) == 1  # a redirect was not followed
    assert CANARY not in everything_about(raised.value)


async def test_an_endless_answer_is_read_no_further_than_its_bound() -> None:
    sent_bytes = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent_bytes
        reply = web.StreamResponse()
        await reply.prepare(request)
        while sent_bytes < 50_000_000:
            await reply.write(b"x" * 65_536)
            sent_bytes += 65_536
        return reply

    app = web.Application()
    app.router.add_post("/", endless)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    opened = channel(Webhook, f"http://127.0.0.1:{runner.addresses[0][1]}/")
    await opened.deliver(notification())
    await opened.close()
    await runner.cleanup()
    assert sent_bytes < 20_000_000


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_there_is_a_reason_to_try_again_without_naming_the_url(kind: type[HttpChannel]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        opened = channel(kind, f"http://127.0.0.1:{taken.getsockname()[1]}/{CANARY}")
        with pytest.raises(RetryLater) as raised:
            await opened.deliver(notification())
        await opened.close()
    assert CANARY not in everything_about(raised.value)


@pytest.mark.parametrize("host", ["a..b", "a b", "-", "x" * 300, "%zz", "xn--"])
async def test_a_host_that_cannot_be_looked_up_does_not_show_the_url(host: str) -> None:
    opened = channel(Webhook, f"https://{host}/{CANARY}", private=False)
    with pytest.raises((Undeliverable, RetryLater)) as raised:
        await opened.deliver(notification())
    await opened.close()
    assert CANARY not in everything_about(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255"),
        *("224.0.0.1", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1"),
        *("::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:0:0:0:0:80ff:fffe"),
    ],
)
def test_addresses_of_one_s_own_network_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "149.154.167.220", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_addresses_of_the_internet_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "2130706433", "0x7f.1"])
async def test_a_url_into_the_own_network_is_refused_when_connecting(host: str, receiver: WebhookReceiver) -> None:
    opened = channel(Webhook, f"https://{host}:{receiver.port}/{CANARY}", private=False)
    with pytest.raises((Undeliverable, RetryLater)) as raised:
        await opened.deliver(notification())
    await opened.close()
    assert receiver.requests == []
    assert CANARY not in everything_about(raised.value)
    if host in ("127.0.0.1", "localhost", "[::1]", "169.254.169.254"):
        assert "not public" in str(raised.value)


async def test_a_name_that_turns_private_between_two_messages_is_refused(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: what counts is the address that is connected to, each time."""
    looked_up: list[str] = []

    async def rebinding(_self: Any, host: str, port: int, **_: Any) -> list[dict[str, Any]]:
        looked_up.append(host)
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", rebinding)
    monkeypatch.setattr("aiohttp.resolver.AsyncResolver.resolve", rebinding)
    opened = channel(Webhook, f"https://hooks.example.org:{receiver.port}/{CANARY}", private=False)
    with pytest.raises(Undeliverable, match="not public"):
        await opened.deliver(notification())
    await opened.close()
    assert looked_up == ["hooks.example.org"]
    assert receiver.requests == []


@pytest.mark.parametrize(
    "url", ["", "hooks.example.org", "ftp://example.org/x", "file:///etc/passwd", "http://example.org/x", "https:///"]
)
def test_a_url_that_cannot_be_used_is_refused_at_the_start_without_showing_it(url: str) -> None:
    with pytest.raises(BadAddress) as raised:
        GuardedPost("slack", SecretStr(f"{url}{CANARY if url else ''}"), private_addresses=False, timeout_s=1)
    assert CANARY not in everything_about(raised.value)


def test_channels_are_those_that_are_enabled_and_have_a_secret() -> None:
    settings = AlertsSettings.model_validate({"slack": {"min_level": "error"}, "discord": {"enabled": False}})
    found = open_channels(
        settings, {"ALERTS_SLACK_URL": "https://hooks.example.org/x", "ALERTS_DISCORD_URL": "https://discord.example.org/y"}
    )
    assert [(each.name, level) for each, level in found] == [("slack", AlertLevel.ERROR)]
    with pytest.raises(ServiceError, match="ALERTS_WEBHOOK_URL: the URL of webhook is not one"):
        open_channels(settings, {"ALERTS_WEBHOOK_URL": "gopher://x"})


def everything_about(error: BaseException) -> str:
    """All that a log or a report could show of an exception, its causes included."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
