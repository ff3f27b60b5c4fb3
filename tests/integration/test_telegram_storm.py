"""The whole alerts process against a Bot API server that fails, in a storm, killed in the middle of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import common_models as cm
from bus.publisher import StreamPublisher
from bus.streams import Streams
from runtime import emergency_stop
from runtime.clock import now_ns
from tests.support.servers import ServerProcess
from tests.support.telegram_server import OWNER, BotApiServer, Fault
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
STREAMS = Streams("simulation")
CRITICAL = 5
FIRST = "The sky falls, part 0"


@contextlib.asynccontextmanager
async def alerts_process(home: Path, bus: str, server: BotApiServer) -> AsyncIterator[asyncio.subprocess.Process]:
    """`tradebot alerts` with this bot; PostgreSQL is away."""
    environment = {
        **os.environ,
        "TRADEBOT_HOME": str(home),
        "TRADEBOT__BUS__URL": bus,
        "TRADEBOT__ALERTS__PORT": "0",
        "TRADEBOT__ALERTS__TELEGRAM": f"{{chat_id: {OWNER}, users: [{{id: {OWNER}, role: admin}}], api_url: '{server.url}'}}",
        "TRADEBOT__EXCHANGES__BINANCE__PORT": "0",
        "TELEGRAM_BOT_TOKEN": server.token,
    }
    log = (home / "out.txt").open("ab")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tradebot", "alerts", cwd=ROOT, env=environment, stdout=log, stderr=log
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 20)
        log.close()


def alert(number: int, level: cm.AlertLevel, text: str) -> cm.Alert:
    code = "SKY_FALLS" if level is cm.AlertLevel.CRITICAL else "NOISE"
    return cm.Alert(level=level, source="test", code=code, text=text, ts_event_ns=now_ns(), symbol=f"A{number}/USDT")


@pytest.mark.parametrize("storm", [1_000, pytest.param(10_000, marks=pytest.mark.chaos)])
async def test_in_a_storm_with_kills_and_outages_every_critical_alert_arrives_and_stop_is_obeyed(
    tmp_path: Path, own_valkey: Callable[[], ServerProcess], storm: int
) -> None:
    bus = own_valkey().url
    publisher = StreamPublisher(bus, "storm")
    await publisher.start()
    async with BotApiServer().running() as server:
        async with alerts_process(tmp_path, bus, server) as process:
            server.say("/ping")
            await eventually(lambda: "pong" in server.texts, 30, "the process takes commands")
            server.faults.append(Fault("sendMessage", 429, retry_after=1))
            for number in range(storm):
                publisher.put(STREAMS.alerts, alert(number, cm.AlertLevel.ERROR, f"noise {number} <b>&"))
                if number % (storm // CRITICAL) == 0:
                    part = number // (storm // CRITICAL)
                    publisher.put(STREAMS.alerts, alert(number, cm.AlertLevel.CRITICAL, f"The sky falls, part {part}"))
            await publisher.flushed()
            await eventually(lambda: any(FIRST in text for text in server.texts), 30, "the first critical alert")
            process.send_signal(signal.SIGKILL)
        server.faults += [Fault("getUpdates", 502, garbage=b"<html>"), Fault("sendMessage", reset=True, too_late=True)]
        server.say("/stop")
        async with alerts_process(tmp_path, bus, server):
            for part in range(CRITICAL):
                await eventually(lambda: any(f"falls, part {part}" in text for text in server.texts), 40, f"part {part}")  # noqa: B023
            await eventually(lambda: any("told to stop" in text for text in server.texts), 20, "/stop obeyed")
            await eventually(lambda: server.pending == 0)
    await publisher.close()
    assert emergency_stop.read(tmp_path).pressed
    told = [sent for sent in server.sent if "noise" in sent.text or "sky" in sent.text]
    assert len(told) <= 2 * 20, "no more than 20 in a minute, of each of the two processes"
    assert server.token not in (tmp_path / "out.txt").read_text()
