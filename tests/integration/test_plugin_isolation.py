"""Hostile plugin files beside a well-behaved one: each costs itself only, and is named with its reason in time."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bot.isolation.check import read_source
from bot.isolation.protocol import Done, encode_event
from bot.isolation.source import source_of
from bot.isolation.workers import Nursery, PluginRefused, Worker, WorkerGone
from common_models import Direction
from runtime.settings import WorkerSettings
from strategy.testing import MARKET, candles, tickers
from tests.support.hostile_plugins import Hostile, write_hostile
from tests.support.waiting import eventually

SECRET = "canary-7f3a91c2"
WITHIN_S = 2.0
AT_ONCE = 6
BURNING_AT_ONCE = 1
LIVES_FOR_EVENTS = 20

WELL_BEHAVED = b"""
from strategy import Direction, Plugin

class Good(Plugin):
    name = "good"

    def on_ticker(self, ticker):
        yield self.signal(ticker, Direction.BUY, reason=f"bid {ticker.bid_price}")

PLUGIN = Good
"""


@dataclass(slots=True)
class Neighbour:
    """A well-behaved plugin that gets an event every few milliseconds, and how long its answers took."""

    worker: Worker
    asked_s: dict[int, float] = field(default_factory=dict)
    took_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def done(self, done: Done) -> None:
        self.took_s.append(time.monotonic() - self.asked_s.pop(done.seq))
        if [(said.direction, said.reason) for said in done.said] != [(Direction.BUY, f"bid {100 + done.seq}")] or done.failures:
            self.wrong.append(f"answer {done.seq}: {done}")

    def p99_s(self, since: int = 0) -> float:
        """What all but the slowest hundredth of its answers stayed under, from this answer on."""
        took_s = sorted(self.took_s[since:])
        return took_s[len(took_s) * 99 // 100]

    async def live(self) -> None:
        self.worker.on_done = self.done
        self.worker.on_gone = self.wrong.append
        seq = 0
        while True:
            (event,) = tickers([100 + seq])
            self.asked_s[seq] = time.monotonic()
            self.worker.send_events(seq, [(encode_event(event), True)])
            seq += 1
            await asyncio.sleep(0.01)  # the pace of the events: below what a worker may say a second


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a hostile file, why, and how long that took from the first event that it could misuse."""

    fate: str
    reason: str
    took_s: float


@pytest.fixture
async def nursery(tmp_path: Path) -> AsyncIterator[Nursery]:
    nursery = Nursery(WorkerSettings(), tmp_path / "logs")
    await nursery.start()
    yield nursery
    await nursery.close()


async def meet(nursery: Nursery, hostile: Hostile, folder: Path) -> Outcome:
    """Let a file in, show it events, ask after it, and see what becomes of it."""
    began_s = time.monotonic()
    try:
        worker = await nursery.open(read_source(hostile.path, folder), {}, [MARKET])
    except PluginRefused as error:
        return Outcome("refused", str(error), time.monotonic() - began_s)
    except WorkerGone as error:
        return Outcome("ended", str(error), time.monotonic() - began_s)
    gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    worker.on_gone = gone.set_result
    began_s = time.monotonic()
    try:
        for seq, event in enumerate(tickers(range(100, 400))):
            worker.send_events(seq, [(encode_event(event), True)])
            done, _ = await asyncio.wait({gone}, timeout=0.01)
            if done:
                return Outcome("ended", gone.result(), time.monotonic() - began_s)
            if seq >= LIVES_FOR_EVENTS and not hostile.in_callback:
                break
        began_s = time.monotonic()
        worker.beat()
        try:
            await worker.load(await worker.save())
        except PluginRefused as error:
            return Outcome("lives", str(error), 0)
        return Outcome("lives", "", 0)
    except WorkerGone as error:
        return Outcome("ended", str(error), time.monotonic() - began_s)
    finally:
        await worker.stop()


async def meet_all(nursery: Nursery, all_hostile: Iterable[Hostile], folder: Path) -> dict[Hostile, Outcome]:
    """All of them, some at a time; of those that burn a processor no more than leave one for the others."""
    places, processors = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(BURNING_AT_ONCE)
    outcomes: dict[Hostile, Outcome] = {}

    async def one(hostile: Hostile) -> None:
        async with places:
            if hostile.burns:
                async with processors:
                    outcomes[hostile] = await meet(nursery, hostile, folder)
            else:
                outcomes[hostile] = await meet(nursery, hostile, folder)

    async with asyncio.TaskGroup() as tasks:
        for hostile in all_hostile:
            tasks.create_task(one(hostile))
    return outcomes


def complaints(outcomes: dict[Hostile, Outcome], within_s: float) -> list[str]:
    """Where the fate is another than it should be, or came too late."""
    return [
        f"{hostile.path.name}: {outcome.fate} after {outcome.took_s:.2f} s: {outcome.reason!r}; expected {hostile.fate}: {hostile.reason!r}"
        for hostile, outcome in outcomes.items()
        if outcome.fate != hostile.fate or not re.search(hostile.reason, outcome.reason) or outcome.took_s > within_s
    ]


async def one_round(nursery: Nursery, folder: Path, count: int, seed: int) -> tuple[dict[Hostile, Outcome], Neighbour]:
    canary = folder / "secrets.env"
    canary.parent.mkdir(parents=True)
    canary.write_text(SECRET)
    neighbour = Neighbour(await nursery.open(source_of("good.py", WELL_BEHAVED), {}, [MARKET]))
    life = asyncio.create_task(neighbour.live())
    try:
        outcomes = await meet_all(nursery, list(write_hostile(folder / "plugins", count, seed, canary)), folder / "plugins")
    finally:
        life.cancel()
    await neighbour.worker.save()  # after all answers
    assert canary.read_text() == SECRET
    return outcomes, neighbour


def patience_s() -> float:
    """The promise is for a machine that has a processor free; tests share one."""
    return WITHIN_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def written_outside() -> bool:
    """Whether one of them could write what some of them try to."""
    return Path("/tmp/hostile").exists()


async def test_sixty_hostile_files_hurt_nobody_else_and_each_is_named_with_its_reason(nursery: Nursery, tmp_path: Path) -> None:
    outcomes, neighbour = await one_round(nursery, tmp_path / "home", 60, seed=193)

    wrong = complaints(outcomes, patience_s())
    assert not wrong, "\n".join(wrong)
    assert neighbour.wrong == []
    assert not neighbour.asked_s, "events that the neighbour never answered"
    assert SECRET not in "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
    assert not written_outside()


COUNTING = b"""
import numpy
from strategy import Direction, Plugin, PluginSettings

class CountingSettings(PluginSettings):
    word: str = "seen"

class Counting(Plugin[CountingSettings]):
    name = "counting"
    settings_type = CountingSettings

    def __init__(self, settings, market):
        super().__init__(settings, market)
        self.closes = numpy.zeros(0)
        self.ticks = 0

    @property
    def warm_up(self):
        return 1000

    def on_candle(self, candle):
        self.closes = numpy.append(self.closes, float(candle.close))

    def on_ticker(self, ticker):
        self.ticks += 1
        print("tick", self.ticks)
        yield self.signal(ticker, Direction.BUY, reason=f"{len(self.closes)} closes, {self.ticks} ticks {self.settings.word}")

    def heartbeat(self):
        return f"{self.ticks} ticks"

    def on_save(self):
        return self.ticks

    def on_load(self, state):
        self.ticks = state

PLUGIN = Counting
"""


async def test_a_plugin_reads_its_past_speaks_and_hands_its_state_over(nursery: Nursery, tmp_path: Path) -> None:
    source = source_of("counting.py", COUNTING)
    past, (first, second) = candles(range(100, 1100)), tickers([1, 2])
    said: list[str] = []
    old = await nursery.open(source, {"word": "heard"}, [MARKET])
    old.on_done = lambda done: said.extend(one.reason for one in done.said)
    old.send_events(1, [(encode_event(first), True)])  # it is cold: nobody hears this
    old.send_history(MARKET, past, [first])
    old.send_events(2, [(encode_event(second), True), (encode_event(second), False)])
    states = await old.save()
    old.beat()
    await eventually(lambda: old.stats.heartbeat == "3 ticks")

    new = await nursery.open(source, {}, [MARKET])
    new.on_done = old.on_done
    new.send_history(MARKET, past, [])
    await new.load(states)
    await old.stop()
    new.send_events(3, [(encode_event(second), True)])
    await new.save()

    assert said == ["1000 closes, 2 ticks heard", "1000 closes, 4 ticks seen"]
    assert (old.gone, new.gone) == ("ended itself with exit code 0 (os._exit?)", "")
    log = tmp_path / "logs" / "counting.log"
    await eventually(lambda: "tick 4" in log.read_text())


async def test_wrong_settings_are_refused_by_name(nursery: Nursery) -> None:
    with pytest.raises(PluginRefused, match="plugin counting: wrd: unknown setting"):
        await nursery.open(source_of("counting.py", COUNTING), {"wrd": 1}, [MARKET])


async def test_many_workers_share_their_memory(nursery: Nursery) -> None:
    workers = [await nursery.open(source_of("good.py", WELL_BEHAVED), {}, [MARKET]) for _ in range(10)]
    assert len({worker.pid for worker in workers}) == 10

    assert sum(pss_mb(worker.pid) for worker in workers) / 10 < 12


def pss_mb(pid: int) -> float:
    """Megabytes of a process, what it shares counted by its share; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


@pytest.mark.chaos
async def test_three_hundred_hostile_files_hurt_nobody_else(nursery: Nursery, tmp_path: Path) -> None:
    outcomes, neighbour = await one_round(nursery, tmp_path / "home", 300, seed=11)

    wrong = complaints(outcomes, patience_s())
    assert not wrong, "\n".join(wrong)
    assert len(outcomes) == 300
    assert neighbour.wrong == []
    assert not neighbour.asked_s
    assert SECRET not in "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
    assert not written_outside()
