"""Which processes a stack has, and in which order."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from runtime.settings import Settings
from tradebot.process_plan import ProcessSpec, plan, service_ready, stop_signal, stop_stage

BINANCE = {"binance": {"port": 8001}}


def specs(home: Path, **settings: Any) -> dict[str, ProcessSpec]:
    values = {"home": home, "exchanges": BINANCE, **settings}
    return {spec.name: spec for spec in plan(Settings.model_validate(values), {"PATH": "/bin", "BINANCE_API_KEY": "canary"})}


def test_simulation_runs_servers_simulator_connector_recorder_alerts_and_bot(tmp_path: Path) -> None:
    names = set(specs(tmp_path))
    assert names == {"valkey", "postgres", "migrations", "simulator-binance", "connector-binance", "recorder", "alerts", "bot"}


def test_paper_has_no_simulator(tmp_path: Path) -> None:
    found = specs(tmp_path, mode="paper")
    assert "simulator-binance" not in found
    assert found["connector-binance"].after == ()


def test_servers_of_ones_own_are_neither_started_nor_waited_for(tmp_path: Path) -> None:
    found = specs(tmp_path, bus={"url": "redis://x"}, postgres={"url": "postgresql://x"})
    assert not {"valkey", "postgres"} & set(found)
    assert found["bot"].needs == ()
    assert found["migrations"].needs == ()


def test_a_disabled_exchange_has_no_process(tmp_path: Path) -> None:
    assert not [name for name in specs(tmp_path, exchanges={"binance": {"port": 8001, "enabled": False}}) if "binance" in name]


def test_everything_that_is_waited_for_exists_and_nothing_waits_in_a_circle(tmp_path: Path) -> None:
    found = specs(tmp_path)
    started: set[str] = set()
    while len(started) < len(found):
        able = {name for name, spec in found.items() if name not in started and {*spec.needs, *spec.after} <= started}
        assert able, f"these wait for ever: {set(found) - started}"
        started |= able


def test_the_recorder_waits_for_its_tables(tmp_path: Path) -> None:
    assert specs(tmp_path)["recorder"].needs == ("valkey", "migrations")


def test_writers_stop_before_what_they_write_to() -> None:
    names = ["valkey", "postgres", "recorder", "simulator-binance", "bot", "connector-binance"]
    ordered = ["bot", "connector-binance", "recorder", "simulator-binance", "postgres", "valkey"]
    assert sorted(names, key=stop_stage) == ordered
    assert stop_signal("postgres") is signal.SIGINT
    assert stop_signal("valkey") is signal.SIGTERM


def test_no_child_gets_a_key_in_simulation(tmp_path: Path) -> None:
    for spec in specs(tmp_path).values():
        assert "canary" not in spec.environment.values()


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False)])
async def test_a_service_is_ready_when_it_says_so(tmp_path: Path, status: int, ready: bool) -> None:
    settings = Settings.model_validate({"home": tmp_path})
    settings.run_dir.mkdir()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} Whatever\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        (settings.run_dir / "bot.port").write_text(str(port))
        (settings.run_dir / "bot.pid").write_text(str(os.getpid()))

        assert await service_ready(settings, "bot", os.getpid()) is ready
        assert not await service_ready(settings, "bot", os.getpid() + 1)  # somebody else's files
    assert not await service_ready(settings, "recorder", os.getpid())
