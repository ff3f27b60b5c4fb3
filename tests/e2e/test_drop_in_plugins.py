"""With the whole system running, a strategy file is dropped in, changed, broken, mended and removed: no restart, and nobody else notices."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from bus.client import open_redis
from bus.codec import decode
from bus.streams import Stream as BusStream
from bus.streams import Streams
from common_models import Alert, Message, PluginMode, PluginState, PluginStatus, Signal
from runtime.endpoints import bus_url
from tests.support.hostile_plugins import ENDLESS, Hostile, write_hostile
from tests.support.stack import ROOT, Stack
from tests.support.waiting import eventually

M = TypeVar("M", bound=Message)
STREAMS = Streams("simulation")
SHADOW_WITHIN_S = 5.0

CLOCKWORK = '''
from strategy import Direction, Plugin

class Clockwork(Plugin):
    """Turns with every twentieth quote, so that it is never silent for long, and counts over changes of its file."""

    name = "clockwork"

    def __init__(self, settings, market):
        super().__init__(settings, market)
        self.quotes = 0

    def on_ticker(self, ticker):
        self.quotes += 1
        if self.quotes % 20 == 0:
            turned = Direction.SELL if self.direction is Direction.BUY else Direction.BUY
            yield self.signal(ticker, turned, reason=f"WORD {self.quotes}")

    def on_save(self):
        return self.quotes

    def on_load(self, state):
        self.quotes = state

PLUGIN = Clockwork
'''
DO_NOTHING_HERE = frozenset({"directory", "loop_in_save", "reads_quietly"})
"""No file at all; harmful when its file is changed only; prints so much in a live market that it may be ended for that."""
HANGS = CLOCKWORK.replace("        self.quotes += 1\n", "        while True: pass\n")


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    folder = tmp_path / "plugins"
    shutil.copytree(ROOT / "plugins", folder, ignore=shutil.ignore_patterns("__pycache__"))
    stack = Stack(tmp_path / "home", {"TRADEBOT__BOT__PLUGINS_DIR": str(folder)})
    try:
        await stack.start()
        yield stack
    finally:
        await stack.end()


class Bus:
    """What is on the bus of a stack now, oldest first."""

    def __init__(self, stack: Stack) -> None:
        self._url = bus_url(stack.settings)

    async def all(self, stream: BusStream, kind: type[M]) -> list[M]:
        redis = open_redis(self._url)
        try:
            entries = await redis.xrange(stream.name)
        finally:
            await redis.aclose()
        return [message for _, fields in entries if isinstance(message := decode(fields[b"d"]), kind)]

    async def signals(self, word: str) -> list[Signal]:
        """What Clockwork said in the version that says `word`."""
        found = await self.all(STREAMS.signals, Signal)
        return [signal for signal in found if signal.strategy == "clockwork" and signal.reason.startswith(word)]

    async def newest(self, name: str) -> PluginStatus | None:
        found = [status for status in await self.all(STREAMS.plugins, PluginStatus) if status.name == name]
        return found[-1] if found else None

    async def becomes(self, state: PluginState, version: str | None = None) -> PluginStatus:
        async def so() -> PluginStatus | None:
            status = await self.newest("clockwork")
            return status if status and status.state is state and version in (None, status.version) else None

        status = await eventually(so, 15, f"clockwork {state}")
        assert status is not None
        return status


async def when_the_maker_of_workers_dies_no_plugin_is_blamed(stack: Stack, bus: Bus) -> None:
    before = await bus.newest("sma")
    assert before is not None
    [nursery] = [child for child in psutil.Process(await stack.pid("bot")).children() if "bot.isolation.nursery" in child.cmdline()]
    nursery.kill()

    async def back() -> bool:
        now = await bus.newest("sma")
        return now is not None and now.state is PluginState.RUNNING and now.pid not in (0, before.pid)

    await eventually(back, 15, "sma in a new worker")
    now = await bus.newest("sma")
    assert now is not None
    assert (now.version, now.mode, now.reason) == (before.version, PluginMode.LIVE, "")


async def test_a_file_is_dropped_in_changed_broken_mended_ended_and_removed_and_nobody_else_notices(stack: Stack) -> None:
    bus, folder = Bus(stack), stack.settings.bot.plugins_dir
    pids = {name: entry["pid"] for name, entry in (await stack.status()).items()}
    others = {name: await bus.newest(name) for name in ("sma", "ema", "rsi", "bollinger_bands")}
    assert all(status is not None and status.mode is PluginMode.LIVE for status in others.values())

    dropped_s = time.monotonic()
    (folder / "deep").mkdir()
    (folder / "deep/clockwork.py").write_text(CLOCKWORK.replace("WORD", "one"))
    ones = await eventually(lambda: bus.signals("one"), 15, "shadow signals of the new file")
    assert time.monotonic() - dropped_s < SHADOW_WITHIN_S
    assert all(signal.shadow for signal in ones)
    first = await bus.becomes(PluginState.RUNNING)
    assert (first.mode, first.path) == (PluginMode.SHADOW, "deep/clockwork.py")
    assert {signal.version for signal in ones} == {first.version}

    (folder / "deep/clockwork.py").write_text(CLOCKWORK.replace("WORD", "two"))
    twos = await eventually(lambda: bus.signals("two"), 15, "signals of the changed file")
    counts = [int(signal.reason.split()[1]) for signal in (*await bus.signals("one"), *twos) if signal.symbol == "BTC/USDT"]
    assert counts == sorted(counts)
    assert all(later - earlier == 20 for earlier, later in pairwise(counts)), "an event was lost or seen twice"
    second = await bus.becomes(PluginState.RUNNING)
    assert second.version != first.version

    (folder / "deep/clockwork.py").write_text(CLOCKWORK.replace("PLUGIN =", "PLUGIN = ="))

    async def told() -> bool:
        return any(alert.code == "PLUGIN_ROLLED_BACK" for alert in await bus.all(STREAMS.alerts, Alert))

    await eventually(told, 15, "an alert on the broken file")
    before = len(await bus.signals("two"))

    async def goes_on() -> bool:
        return len(await bus.signals("two")) > before

    await eventually(goes_on, 15, "the version before the broken one going on")
    (folder / "deep/clockwork.py").write_text(CLOCKWORK.replace("WORD", "three"))
    await eventually(lambda: bus.signals("three"), 15, "signals of the mended file")

    (folder / "hangs.py").write_text(HANGS.replace("clockwork", "hangs"))

    async def ended() -> bool:
        status = await bus.newest("hangs")
        return status is not None and status.state is PluginState.QUARANTINED and "endless loop: on_ticker" in status.reason

    await eventually(ended, 30, "the endless loop being ended")
    (folder / "deep/clockwork.py").unlink()
    await bus.becomes(PluginState.REMOVED)

    assert {name: entry["pid"] for name, entry in (await stack.status()).items()} == pids
    for name, status in others.items():
        now = await bus.newest(name)
        assert now is not None
        assert status is not None
        assert (now.pid, now.version, now.mode, now.errors) == (status.pid, status.version, PluginMode.LIVE, 0)
    await when_the_maker_of_workers_dies_no_plugin_is_blamed(stack, bus)
    code, text = await stack.run("--set", "log.level=ERROR", "plugin", "list")
    assert code == 0, text
    assert "hangs" in text
    assert "endless loop" in text


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [60, pytest.param(300, marks=pytest.mark.chaos)])
async def test_hostile_files_dropped_into_the_running_stack_are_named_and_hurt_nobody(
    stack: Stack, tmp_path: Path, count: int
) -> None:
    bus, folder = Bus(stack), stack.settings.bot.plugins_dir
    pids = {name: entry["pid"] for name, entry in (await stack.status()).items()}
    canary = tmp_path / "secrets.env"
    canary.write_text("PASSWORD=canary\n")
    named = {
        one.path.relative_to(folder).as_posix(): one
        for one in write_hostile(folder / "hostile", count, 23, canary)
        if one.kind not in DO_NOTHING_HERE
    }
    wrong: list[str] = []

    async def settled() -> bool:
        newest = {status.path: status for status in await bus.all(STREAMS.plugins, PluginStatus)}
        wrong[:] = [f"{one.kind}: {newest.get(path)}" for path, one in named.items() if not _as_expected(one, newest.get(path))]
        return not wrong

    try:
        await eventually(settled, 240, "the fate of every hostile file")
    except AssertionError as error:
        raise AssertionError("\n".join(wrong[:10])) from error
    assert canary.read_text() == "PASSWORD=canary\n"
    assert {name: entry["pid"] for name, entry in (await stack.status()).items()} == pids
    for name in ("sma", "ema", "rsi", "bollinger_bands"):
        status = await bus.newest(name)
        assert status is not None
        assert (status.state, status.mode, status.errors) == (PluginState.RUNNING, PluginMode.LIVE, 0)


def _as_expected(hostile: Hostile, status: PluginStatus | None) -> bool:
    """Whether a file was refused or ended with the reason that it deserves; one that does no harm may run."""
    if status is None:
        return False
    if hostile.fate == "lives":
        return status.state is PluginState.RUNNING
    reason = f"{hostile.reason}|{ENDLESS}"  # among hundreds, what takes long anyway is ended for that first
    return status.state in (PluginState.BROKEN, PluginState.QUARANTINED) and bool(re.search(reason, status.reason))
