"""The live view finds on the bus and in the home what a person should know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bot.controls import Controls
from bus.connection import Connection
from bus.publisher import StreamPublisher
from bus.streams import Streams
from common_models import (
    Alert,
    AlertLevel,
    Control,
    ControlAction,
    Instrument,
    InstrumentStatus,
    PluginState,
    PluginStatus,
    Position,
)
from runtime import emergency_stop
from runtime.clock import now_ns
from runtime.settings import Settings
from tradebot.screen import attention, positions
from tradebot.stack_numbers import StackWatch

STREAMS = Streams("simulation")


@pytest.fixture
async def settings(valkey_url: str, tmp_path: Path) -> Settings:
    url = urlsplit(valkey_url)._replace(path="/10").geturl()  # a database that no other test uses: modes have fixed names here
    connection = await Connection.open(url)
    await connection.command("FLUSHDB")
    connection.close()
    return Settings.model_validate({"home": tmp_path, "bus": {"url": url}, "exchanges": {"binance": {"port": 8001}}})


@pytest.fixture
async def publisher(settings: Settings) -> AsyncIterator[StreamPublisher]:
    assert settings.bus.url is not None
    publisher = StreamPublisher(settings.bus.url.get_secret_value(), "test")
    await publisher.start()
    yield publisher
    await publisher.close()


async def test_stop_pause_plugins_and_alerts_are_seen(settings: Settings, publisher: StreamPublisher) -> None:
    emergency_stop.press(settings.home, "fat finger", "anna")
    controls = Controls(settings.home / "bot" / "simulation" / "pauses.json")
    controls.update(Control(action=ControlAction.PAUSE, actor="bob", reason="news", created_at_ns=1))
    for state in (PluginState.RUNNING, PluginState.QUARANTINED):
        status = PluginStatus(name="wild", path="wild.py", state=state, reason="endless loop", ts_event_ns=now_ns())
        publisher.put(STREAMS.plugins, status)
    for code, resolves in (("GAP", False), ("DISK", False), ("GAP", True)):
        fields = {"level": AlertLevel.ERROR, "source": "test", "code": code, "text": "words", "ts_event_ns": now_ns()}
        publisher.put(STREAMS.alerts, Alert(**fields, resolves=resolves))
    await publisher.flushed()
    watch = StackWatch(settings, [])

    await watch.refresh()
    watch.close()

    assert [line.plain.partition(" ")[0] for line in attention(watch.numbers, "tradebot")] == [
        "stopped",
        "paused",
        "plugins",
        "alert",
    ]
    assert [alert.code for alert in watch.numbers.alerts] == ["DISK"]
    assert watch.numbers.plugins["wild.py"].state is PluginState.QUARANTINED


async def test_the_stop_is_seen_without_a_bus(tmp_path: Path) -> None:
    emergency_stop.press(tmp_path, "fat finger", "anna")
    watch = StackWatch(Settings.model_validate({"home": tmp_path, "bus": {"url": "redis://127.0.0.1:1/0"}}), [])

    await watch.refresh()

    assert not watch.numbers.reachable
    assert watch.numbers.stopped == "anna: fat finger"


async def test_dust_is_told_from_a_position_by_the_rules_of_the_market(settings: Settings, publisher: StreamPublisher) -> None:
    for symbol, quantity in (("BTC/USDT", "0.5"), ("ETH/USDT", "0.00005")):
        rules = Instrument(
            exchange="binance",
            symbol=symbol,
            ts_event_ns=None,
            ts_recv_ns=1,
            native_symbol=symbol.replace("/", ""),
            base=symbol[:3],
            quote="USDT",
            status=InstrumentStatus.TRADING,
            price_tick=Decimal("0.01"),
            quantity_step=Decimal("0.0001"),
            min_quantity=Decimal("0.0001"),
            min_notional=Decimal(5),
        )
        held = Position(
            exchange="binance",
            account="main",
            symbol=symbol,
            strategy="consensus",
            ts_event_ns=None,
            ts_recv_ns=1,
            quantity=Decimal(quantity),
            cost=Decimal(quantity) * 2000,
        )
        publisher.put(STREAMS.market("binance", "instruments"), rules)
        publisher.put(STREAMS.account("binance", "main", "positions"), held)
    await publisher.flushed()
    watch = StackWatch(settings, [])

    await watch.refresh()
    watch.close()

    assert ["BTC/USDT" in line.plain for line in positions(watch.numbers)] == [True]
