"""`tradebot traces` against a real bus and a local collector that goes away and comes back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bus.publisher import StreamPublisher
from bus.streams import Streams
from runtime.health import Health
from runtime.service import Service, ServiceError
from runtime.settings import Mode, Settings
from tests.support.otlp import Collector
from tests.support.waiting import eventually
from tests.unit.bus.messages import signal
from tradebot import trace_export
from tradebot.trace_export import export, traces_endpoint


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    await collector.start()
    yield collector
    await collector.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    monkeypatch.setenv("TRADEBOT_TRACES_ENDPOINT", collector.url)
    monkeypatch.setattr(trace_export, "SETTLE_NS", 1)
    monkeypatch.setattr(trace_export, "EVERY_S", 0.02)
    monkeypatch.setattr(trace_export, "SEND_TIMEOUT_S", 0.2)


@pytest.fixture
def settings(own_bus: str, tmp_path: Path) -> Settings:
    return Settings.model_validate({"home": tmp_path, "bus": {"url": own_bus}})


@pytest.fixture
def own_bus(valkey_url: str) -> str:
    """A database of the server that no other test uses: the mode of a real process is simulation."""
    return valkey_url.removesuffix("/0") + "/7"


@asynccontextmanager
async def exporting(settings: Settings) -> AsyncIterator[Service]:
    service = Service("traces", settings, Health("traces"))
    task = asyncio.create_task(export(service))
    try:
        yield service
    finally:
        service.stop.set()
        await task


@asynccontextmanager
async def speaking(url: str) -> AsyncIterator[StreamPublisher]:
    publisher = StreamPublisher(url, "bot")
    await publisher.start()
    yield publisher
    await publisher.close()


def reasons(collector: Collector) -> set[str]:
    return {span.attributes["tradebot.reason"] for span in collector.spans}


async def test_what_was_said_while_it_was_away_is_sent_after_a_restart_once(
    settings: Settings, collector: Collector, own_bus: str
) -> None:
    signals = Streams(Mode.SIMULATION.value).signals
    position = settings.home / "traces" / "simulation.json"
    async with speaking(own_bus) as bot:
        async with exporting(settings):
            await eventually(lambda: bool(bot.put(signals, signal("first")) and collector.spans), what="a first span")
            await eventually(position.exists, what="a position")
            bot.put(signals, signal("last of the first life"))
            await eventually(lambda: "last of the first life" in reasons(collector))
        before = len(collector.spans)
        bot.put(signals, signal("while away"))
        await bot.flushed()
        async with exporting(settings):
            await eventually(lambda: "while away" in reasons(collector))
    again = [span for span in collector.spans[before:] if span.attributes["tradebot.reason"] == "first"]
    assert again == []


async def test_a_collector_that_is_away_is_waited_for_and_loses_nothing(
    settings: Settings, collector: Collector, own_bus: str
) -> None:
    signals = Streams(Mode.SIMULATION.value).signals
    async with speaking(own_bus) as bot, exporting(settings) as service:
        await eventually(lambda: bool(bot.put(signals, signal("start")) and collector.spans), what="a first span")
        collector.refusing = True
        for number in range(600):
            bot.put(signals, signal(f"held {number}"))
        await eventually(lambda: not service.health.components["collector"].ok, what="the trouble is told")
        collector.refusing = False
        await eventually(lambda: len(reasons(collector)) >= 601, 20, "everything that was held")
        await eventually(lambda: service.health.components["collector"].ok)


async def test_without_a_collector_it_says_what_to_set(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRADEBOT_TRACES_ENDPOINT")
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    with pytest.raises(ServiceError, match="TRADEBOT_TRACES_ENDPOINT"):
        await export(Service("traces", settings, Health("traces")))


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, ""),
        ({"TRADEBOT_TRACES_ENDPOINT": "http://a:4318/"}, "http://a:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:4318"}, "http://b:4318/v1/traces"),
        ({"TRADEBOT_TRACES_ENDPOINT": "http://a:4318", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:4318"}, "http://a:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/x"}, "http://c/x"),
    ],
)
def test_the_endpoint_is_ours_or_opentelemetrys(environ: dict[str, str], endpoint: str) -> None:
    assert traces_endpoint(environ) == endpoint
