"""The process that takes commands, killed at the worst instants: what was said is done once or not at all, and never unnoticed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from bus.codec import decode
from bus.lanes import FIELD
from bus.streams import Streams
from common_models import Control
from runtime import emergency_stop
from runtime.endpoints import write_private
from runtime.settings import Settings
from tests.support.servers import ServerProcess
from tests.support.telegram_bot import settings_for
from tests.support.telegram_server import BotApiServer
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
STREAMS = Streams("simulation")
TOLD = "Received before a restart"


@dataclass
class Bench:
    """A home, a real bus, the local Bot API server, and processes that come and go."""

    settings: Settings
    server: BotApiServer
    redis: Redis

    @contextlib.asynccontextmanager
    async def process(self, crash: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
        environment = {**os.environ, "CHAOS_CRASH": crash, "TELEGRAM_BOT_TOKEN": self.server.token}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fakes.telegram_process", self.settings.model_dump_json()), cwd=ROOT, env=environment
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.wait(), 15)

    async def controls(self) -> list[str]:
        """What was said on the bus, copies of one message counted once."""
        entries = await self.redis.xrange(STREAMS.control.name)
        messages = [decode(fields[FIELD.encode()]) for _, fields in entries]
        by_id = {message.message_id: message for message in messages if isinstance(message, Control)}
        return [message.action.value for message in by_id.values()]

    async def until_idle(self) -> None:
        """The bot has taken everything, and answers."""
        known = len(self.server.sent)
        self.server.say("/ping")
        await eventually(lambda: "pong" in self.server.texts[known:] and not self.server.pending, 20, "a pong")


@pytest.fixture
async def bench(tmp_path: Path, own_valkey: Callable[[], ServerProcess]) -> AsyncIterator[Bench]:
    url = own_valkey().url
    async with BotApiServer().running() as server:
        settings = settings_for(tmp_path, server)
        write_private(settings.run_dir / "bus.url", url)
        redis = Redis.from_url(url)
        try:
            yield Bench(settings, server, redis)
        finally:
            await redis.aclose()


async def confirmed(bench: Bench, text: str) -> None:
    """Say something that takes a code, and give it."""
    bench.server.say(text)
    question = await eventually(lambda: re.search(r"send (\d{6})", bench.server.texts[-1] if bench.server.sent else ""), 20)
    bench.server.say(question[1])


async def crash_and_return(bench: Bench, text: str, point: str) -> None:
    """Say `text` to a process that dies at `point`, start another, and judge both."""
    loosens = text.startswith("/resume")
    if loosens:
        emergency_stop.press(bench.settings.home, "test", "tester")
    async with bench.process(f"telegram-{point}:1") as process:
        if loosens:
            await confirmed(bench, text)
        else:
            bench.server.say(text)
        assert await asyncio.wait_for(process.wait(), 20) == 137
    before = len(bench.server.sent)
    async with bench.process():
        await bench.until_idle()
        await bench.until_idle()

    controls = await bench.controls()
    told = [sent for sent in bench.server.texts[before:] if TOLD in sent]
    assert len(controls) <= 1
    assert len(told) == (0 if point == "ended" else 1), bench.server.texts
    if point == "taken":
        assert controls == []
        assert emergency_stop.read(bench.settings.home).pressed is loosens
    if point in ("done", "ended"):
        assert len(controls) == 1


@pytest.mark.parametrize(("text", "point"), [("/pause", "taken"), ("/kill", "cancelled"), ("/resume_trading", "published")])
async def test_a_command_is_carried_out_at_most_once_whenever_the_process_dies(bench: Bench, text: str, point: str) -> None:
    await crash_and_return(bench, text, point)


@pytest.mark.chaos
@pytest.mark.parametrize("text", ["/pause", "/stop", "/kill", "/resume", "/resume_trading"])
@pytest.mark.parametrize("point", ["taken", "published", "done", "ended"])
async def test_every_crash_point_of_every_command(bench: Bench, text: str, point: str) -> None:
    await crash_and_return(bench, text, point)


@pytest.mark.chaos
async def test_sixty_kills_at_random_instants_execute_nothing_twice(bench: Bench) -> None:
    said = 0
    for number in range(60):
        async with bench.process() as process:
            await eventually(lambda: bench.server.calls["getUpdates"] > 0, 20)
            for _ in range(5):
                bench.server.say("/pause")
                said += 1
            await asyncio.sleep(random.Random(number).uniform(0.3, 1.5))
            process.kill()
            await process.wait()
    async with bench.process():
        await bench.until_idle()
        await bench.until_idle()
    controls = await bench.controls()
    told = sum(text.count("/pause") for text in bench.server.texts if TOLD in text)
    assert len(controls) <= said
    assert len(controls) + told >= said, "each was carried out, or its sender was told"
