"""An alert on its way to one chat: taken, tried again later, or refused for good, and told which."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from alerts.notification import Notification, RetryLater, Undeliverable
from alerts.telegram.api import BotApi
from alerts.telegram.channel import TelegramChannel
from common_models import AlertLevel
from tests.support.telegram_server import OWNER, BotApiServer, Fault

ALERT = Notification(
    number=1,
    level=AlertLevel.CRITICAL,
    event="order",
    title="UNKNOWN <b>order</b> & more",
    text="BTC/USDT\n5 > 3",
    silent=False,
    key="k",
    alert_id="k3f9",
    created_ns=1,
)


@pytest.fixture
async def channel(server: BotApiServer) -> AsyncIterator[TelegramChannel]:
    api = BotApi(SecretStr(server.token), server.url)
    yield TelegramChannel(api, OWNER)
    await api.close()


async def test_an_alert_reads_as_it_was_written(channel: TelegramChannel, server: BotApiServer) -> None:
    await channel.deliver(ALERT)
    (sent,) = server.sent
    assert sent.text == "🚨 UNKNOWN <b>order</b> & more\nBTC/USDT\n5 > 3\n/ack_k3f9"
    assert sent.markup.startswith("<b>🚨 UNKNOWN &lt;b&gt;")
    assert not sent.silent
    await channel.deliver(replace(ALERT, number=2, silent=True, alert_id="", text="", level=AlertLevel.INFO))
    assert (server.sent[1].silent, server.sent[1].text) == (True, "🔹 UNKNOWN <b>order</b> & more")


async def test_markup_that_telegram_does_not_like_goes_plain(channel: TelegramChannel, server: BotApiServer) -> None:
    server.faults.append(Fault("sendMessage", 400, "Bad Request: can't parse entities: Unsupported start tag"))
    await channel.deliver(ALERT)
    (sent,) = server.sent
    assert sent.text == sent.markup == "🚨 UNKNOWN <b>order</b> & more\nBTC/USDT\n5 > 3\n/ack_k3f9"


async def test_a_long_alert_is_several_messages(channel: TelegramChannel, server: BotApiServer) -> None:
    await channel.deliver(replace(ALERT, text="\n".join(f"line {number:04d} 🚨" for number in range(600))))
    said = "\n".join(server.texts)
    assert len(server.sent) == 2
    assert all(said.count(f"line {number:04d}") == 1 for number in range(600))


async def test_a_second_part_that_fails_is_sent_alone_the_next_time(channel: TelegramChannel, server: BotApiServer) -> None:
    alert = replace(ALERT, text="x" * 6_000)
    taken = server._accept

    def once(*arguments: object) -> object:
        server._accept = taken  # type: ignore[method-assign]
        server.faults.append(Fault("sendMessage", 503))
        return taken(*arguments)  # type: ignore[arg-type]

    server._accept = once  # type: ignore[method-assign,assignment]
    with pytest.raises(RetryLater):
        await channel.deliver(alert)
    await channel.deliver(alert)
    assert [len(text) for text in server.texts] == [len("🚨 UNKNOWN <b>order</b> & more"), 4096, 1904 + len("\n/ack_k3f9")]


@pytest.mark.parametrize(
    ("fault", "after_s", "reason"),
    [
        (Fault(code=429, retry_after=31), 31, "wait 31 s"),
        (Fault(code=500), None, "trouble of its own"),
        (Fault(reset=True), None, "does not answer"),
        (Fault(code=401, description="Unauthorized"), 300, "TELEGRAM_BOT_TOKEN"),
        (Fault(code=403, description="Forbidden: bot was blocked by the user"), 300, "write /start"),
        (Fault(code=400, description="Bad Request: chat not found"), 300, "alerts.telegram.chat_id"),
    ],
)
async def test_what_may_pass_later_is_kept(
    channel: TelegramChannel, server: BotApiServer, fault: Fault, after_s: float | None, reason: str
) -> None:
    server.faults.append(fault)
    with pytest.raises(RetryLater) as caught:
        await channel.deliver(ALERT)
    assert caught.value.after_s == after_s
    assert reason in caught.value.reason
    await channel.deliver(ALERT)
    assert len(server.sent) == 1


async def test_what_telegram_will_never_take_is_refused_with_its_reason(channel: TelegramChannel, server: BotApiServer) -> None:
    server.faults.append(Fault("sendMessage", 400, "Bad Request: TOPIC_CLOSED"))
    with pytest.raises(Undeliverable, match="TOPIC_CLOSED"):
        await channel.deliver(ALERT)
