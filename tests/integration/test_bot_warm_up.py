"""Plugins that lack candles are warmed up from the real database, and a database that is away costs nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from bot.event_loop import EventLoop
from bot.isolation.in_process import InProcessWorkers
from bot.warm_up import keep_warm, past_candles
from bus.memory import MemoryBus, MemoryPublisher
from common_models import Candle
from postgres import migrate
from postgres.pool import open_pool
from postgres.writer import HistoryWriter
from runtime.clock import now_ns
from runtime.settings import PostgresSettings, Settings
from strategy import Market
from strategy.testing import candles
from tests.support.waiting import eventually

MARKET = Market("binance", "BTC/USDT")
MINUTE_NS = 60_000_000_000
PLUGINS = Path(__file__).resolve().parents[2] / "plugins/technical_indicators"


def stored_candles(count: int) -> list[Candle]:
    start_ns = now_ns() // MINUTE_NS * MINUTE_NS - count * MINUTE_NS
    made = candles([50_000 + number for number in range(count)], start_ns=start_ns)
    return [msgspec.structs.replace(candle, exchange="binance") for candle in made]


def settings_for(url: str) -> Settings:
    return Settings.model_validate({"postgres": {"url": url}})


async def store(url: str, stored: list[Candle]) -> None:
    await asyncio.to_thread(migrate.upgrade, url, "simulation")
    async with await open_pool(url, "simulation", PostgresSettings(pool_size=1)) as pool, pool.acquire() as connection:
        await HistoryWriter().store(connection, stored)


async def test_cold_plugins_are_warmed_up_from_the_history(database_url: str, tmp_path: Path) -> None:
    past = stored_candles(40)
    await store(database_url, past)
    settings = Settings.model_validate(
        {
            "home": tmp_path,
            "postgres": {"url": database_url},
            "bot": {"plugins_dir": PLUGINS},
            "exchanges": {"binance": {"port": 0, "symbols": ["BTC/USDT"]}},
        }
    )
    workers = InProcessWorkers()
    loop = EventLoop(settings, MemoryPublisher(MemoryBus(), "bot"), workers)
    loop.start()
    async with asyncio.TaskGroup() as tasks:
        await loop.lifecycle.load(tasks)
    assert loop.lifecycle.slots.cold_markets() == {MARKET}

    stop = asyncio.Event()
    cold, bars = loop.lifecycle.slots.cold_markets, loop.host.bars_needed
    task = asyncio.create_task(keep_warm(settings, loop.provider, cold, lambda: bars, stop))
    await eventually(lambda: not cold())
    stop.set()
    await asyncio.wait_for(task, 5)

    assert bars == 26
    assert [candle.close for candle in loop.provider.run_of(MARKET)] == [candle.close for candle in past[-26:]]
    assert workers.made["sma"].runner._instances[MARKET].plugin.slow.value is not None  # type: ignore[attr-defined]


async def test_a_history_that_cannot_be_asked_gives_no_candles(database_url: str, tmp_path: Path) -> None:
    assert await past_candles(settings_for(database_url), MARKET, 10) == []  # a database without our tables
    assert await past_candles(settings_for("postgresql://nobody@127.0.0.1:1/none"), MARKET, 10) == []
    assert await past_candles(Settings.model_validate({"home": tmp_path}), MARKET, 10) == []  # not running


async def test_the_history_s_answer_is_limited_and_in_order(database_url: str) -> None:
    await store(database_url, stored_candles(30))
    got = await past_candles(settings_for(database_url), MARKET, 7)

    assert [candle.close for candle in got] == [50_000 + number for number in range(23, 30)]
