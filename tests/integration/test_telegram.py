"""Telegram with what it reads and commands for real: PostgreSQL, the bus, and a bot process that says how it does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path

import asyncpg
import pytest

import common_models as cm
from bus.publisher import StreamPublisher
from bus.streams import Streams
from postgres import migrate
from postgres.pool import open_pool
from postgres.writer import HistoryWriter
from runtime import emergency_stop
from runtime.clock import now_ns
from runtime.endpoints import write_private
from runtime.health import Health, HealthServer
from runtime.settings import PostgresSettings
from tests.support.servers import ServerProcess
from tests.support.telegram_bot import TRADER, VIEWER, Chat, bot, settings_for
from tests.support.telegram_server import BotApiServer
from tests.support.waiting import eventually
from tests.unit.postgres.samples import balance, candle, changed, fill, identity, one_of_each, order, position, round_trip, signal

STREAMS = Streams("simulation")


@pytest.fixture
async def chat(tmp_path: Path, database_url: str, own_valkey: Callable[[], ServerProcess]) -> AsyncIterator[Chat]:
    """A bot whose history and bus are real."""
    await asyncio.to_thread(migrate.upgrade, database_url, "simulation")
    valkey = own_valkey()
    async with BotApiServer().running() as server:
        settings = settings_for(tmp_path, server)
        write_private(settings.run_dir / "postgres.url", database_url)
        write_private(settings.run_dir / "bus.url", valkey.url)
        async with bot(server, settings) as chat:
            yield chat


@pytest.fixture
async def history(database_url: str, chat: Chat) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(database_url, "simulation", PostgresSettings(pool_size=1)) as opened:
        yield opened


def instrument(**rules: Decimal) -> cm.Instrument:
    (found,) = [message for message in one_of_each() if isinstance(message, cm.Instrument)]
    return changed(found, rules)


async def store(pool: asyncpg.Pool, *messages: cm.Message) -> None:
    async with pool.acquire() as connection:
        await HistoryWriter().store(connection, messages)


async def test_every_question_is_answered_from_the_history(chat: Chat, history: asyncpg.Pool) -> None:
    for text in [
        "/status",
        "/status_",
        "/profit",
        "/daily",
        "/performance",
        "/trades",
        "/fills",
        "/orders",
        "/balance",
        "/count",
        "/signals",
        "/chart",
        "/alerts",
    ]:
        assert (await chat.ask(text, VIEWER)).text, f"an empty history has an answer to {text}"

    started_ns = now_ns()
    minute_ns = 60_000_000_000
    open_ns = started_ns - started_ns % minute_ns - 40 * minute_ns
    candles = [candle(n, open_ns=open_ns + n * minute_ns, close_ns=open_ns + (n + 1) * minute_ns) for n in range(40)]
    await store(
        history,
        *candles,
        position(
            1,
            quantity=Decimal("0.5"),
            cost=Decimal(32000),
            unrealised=Decimal("-320"),
            mark_price=Decimal(63360),
            ts_recv_ns=started_ns - minute_ns * 9,
        ),
        fill(1, ts_recv_ns=started_ns - 10 * minute_ns, ts_event_ns=started_ns - 10 * minute_ns),
        order(1, status=cm.OrderStatus.OPEN),
        balance(1),
        round_trip(1, opened_ns=started_ns - minute_ns, closed_ns=started_ns),
        signal(1, shadow=True),
    )
    expected = {
        "/status": "long 0.5 at 64,000.00, now ",
        "/status table": "BTC/USDT long",
        "/profit": "-2.81 USDT after fees of 12.81",
        "/profit 3": "last 3 days",
        "/daily": "-2.81",
        "/weekly 2": "-2.81",
        "/monthly": "-2.81",
        "/performance": "BTC/USDT",
        "/trades 5": "take profit",
        "/fills": "64,000.10",
        "/orders": "BTC/USDT at 64,000.10",
        "/oo": "OPEN",
        "/balance": "binance/main",
        "/pf": "USDT",
        "/count": "1 positions open, 3 allowed",
        "/signals": "shadow",
    }
    for text, part in expected.items():
        answer = (await chat.ask(text, VIEWER)).text
        assert part in answer, (text, answer)
    assert "-320.00 USDT (-1.00 %)" in (await chat.ask("/status", VIEWER)).text

    dust = {"price_tick": Decimal("0.01"), "quantity_step": Decimal("0.001"), "min_quantity": Decimal(1)}
    await store(history, instrument(**dust))
    assert "no open positions\ntoo small to be sold: 0.5 BTC/USDT" in (await chat.ask("/status", VIEWER)).text

    for text in ("/chart", "/chart BTC-USDT"):
        picture = await chat.ask(text, VIEWER)
        assert picture.photo.startswith(b"\x89PNG"), picture.text
    assert "no candles of DOGE/USDT" in (await chat.ask("/chart DOGE/USDT", VIEWER)).text
    assert "not a symbol" in (await chat.ask("/chart %%", VIEWER)).text.lower()


async def test_pauses_and_plugins_are_told_as_they_were_seen_to_happen(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply waits for the bot: its health for a pause, its stream for a plugin."""
    health = Health("bot")
    health.report("trading", True, "0 orders in flight, entries paused: {'*': 'why'}")
    http = HealthServer(health, "127.0.0.1", 0)
    await http.start()
    write_private(chat.settings.run_dir / "bot.port", str(http.port))
    publisher = StreamPublisher((chat.settings.run_dir / "bus.url").read_text(), "bot")
    await publisher.start()
    try:
        assert "enters nothing new" in (await chat.ask("/pause", TRADER)).text
        assert "bot, up" in (await chat.ask("/health", VIEWER)).text

        status = cm.PluginStatus(
            name="sma", path="sma.py", state=cm.PluginState.RUNNING, mode=cm.PluginMode.SHADOW, version="1f0c22aa9b3e",
            ts_event_ns=now_ns(), heartbeat="fast 1 slow 2",
        )  # fmt: skip
        publisher.put(STREAMS.plugins, status)
        publisher.put(STREAMS.plugins, cm.PluginStatus(name="gone", path="g.py", state=cm.PluginState.REMOVED, ts_event_ns=1))
        await publisher.flushed()
        listed = (await chat.ask("/plugins", VIEWER)).text
        assert "sma: running, shadow" in listed
        assert "gone" not in listed

        assert "no plugin nope" in (await chat.ask("/enable nope live")).text
        question = await chat.ask("/enable sma live")
        known = len(chat.server.sent)
        chat.server.press(question, question.buttons[0]["callback_data"])
        await eventually(lambda: "promote" in chat.publisher.said)
        later = cm.PluginStatus(
            name="sma", path="sma.py", state=cm.PluginState.RUNNING, mode=cm.PluginMode.LIVE, ts_event_ns=now_ns()
        )
        publisher.put(STREAMS.plugins, later)
        assert (await chat.answer(known)).text == "✅ sma is running, live"

        monkeypatch.setattr("alerts.telegram.actions.EVIDENCE_S", 0.0)
        assert "no plugin sma has followed" in (await chat.ask("/disable sma", TRADER)).text
        assert chat.publisher.said == ["pause", "promote", "disable"]
    finally:
        await publisher.close()
        await http.stop()


async def test_status_tells_stops_that_were_said_to_all(chat: Chat, history: asyncpg.Pool) -> None:
    """Where the connectors have homes of their own, the stop of this home says nothing."""
    assert "no emergency stop, no pause" in (await chat.ask("/status", VIEWER)).text
    halt = cm.Control(action=cm.ControlAction.HALT, actor="ann", reason="why", created_at_ns=now_ns(), **identity("control", 1))
    await store(history, halt, changed(halt, {"action": cm.ControlAction.PAUSE, "message_id": "test.control:e:2"}))
    status = (await chat.ask("/status", VIEWER)).text
    assert "emergency stop of everything pressed by ann: why" in status
    assert "entries of everything paused by ann" in status
    emergency_stop.press(chat.settings.home, "here", "bob")
    assert "pressed by bob: here" in (await chat.ask("/status", VIEWER)).text
    emergency_stop.release(chat.settings.home, "bob")
    assert "stop" not in (await chat.ask("/status", VIEWER)).text


async def test_a_bus_that_is_away_stops_what_loosens_and_not_what_stops(
    tmp_path: Path, own_valkey: Callable[[], ServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.telegram.bus_words.BUS_S", 0.2)
    async with BotApiServer().running() as server:
        settings = settings_for(tmp_path, server)
        write_private(settings.run_dir / "bus.url", "redis://127.0.0.1:9/0")
        async with bot(server, settings) as chat:
            chat.publisher.away = True
            (settings.run_dir / "connector-binance.port").unlink()
            assert "Nobody was told to stop" in (await chat.ask("/stop", TRADER)).text
            write_private(settings.run_dir / "connector-binance.port", "9")
            stopped = await chat.ask("/stop", TRADER)
            assert "emergency stop is pressed" in stopped.text
            assert "nobody else was told" in stopped.text
            assert emergency_stop.read(tmp_path).pressed
            question = await chat.ask("/resume_trading")
            code = re.search(r"\d{6}", question.text)
            assert code
            assert "bus is not reachable, so nothing was changed" in (await chat.ask(code[0])).text
            assert emergency_stop.read(tmp_path).pressed
            assert chat.publisher.said == ["halt", "halt"]


async def test_kill_tells_what_is_left_and_doubts_a_history_that_nobody_writes(chat: Chat, history: asyncpg.Pool) -> None:
    unwritten = (await chat.ask("/kill", TRADER)).text
    assert "asked to cancel every open order" in unwritten
    assert "the recorder is not ready" in unwritten

    health = Health("recorder")
    health.report("database", True)
    http = HealthServer(health, "127.0.0.1", 0)
    await http.start()
    write_private(chat.settings.run_dir / "recorder.port", str(http.port))
    try:
        await store(history, order(1, status=cm.OrderStatus.OPEN))
        known = len(chat.server.sent)
        chat.server.say("/kill", TRADER)
        await eventually(lambda: chat.publisher.said == ["halt", "halt"])
        await store(history, order(2, status=cm.OrderStatus.CANCELED))
        assert "No order is open any more" in (await chat.answer(known)).text
    finally:
        await http.stop()
