"""The services with a user and a role each: they trade, every order can be followed, and a lost disk is restored from a backup."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from tests.e2e.test_killed_processes import LIVELY
from tests.support.agreement import VenueTruth, disagreements
from tests.support.guarded import guarded_bus
from tests.support.guarded_stack import GuardedStack, guarded_stack
from tests.support.otlp import Collector, Seen
from tests.support.waiting import eventually

LEDGER = "simulator-binance/simulator/binance/ledger.log"


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    await collector.start()
    yield collector
    await collector.stop()


@pytest.fixture
async def stack(tmp_path: Path, database_url: str, collector: Collector) -> AsyncIterator[GuardedStack]:
    (tmp_path / "bus").mkdir()
    with guarded_bus(tmp_path / "bus") as bus:
        environment = LIVELY | {"TRADEBOT_TRACES_ENDPOINT": collector.url}
        async with guarded_stack(tmp_path, bus, database_url, environment) as running:
            yield running


@asynccontextmanager
async def history(stack: GuardedStack, role: str = "reader") -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(stack.database_url(role), server_settings={"search_path": "simulation"})
    try:
        yield connection
    finally:
        await connection.close()


async def fills(stack: GuardedStack, at_least: int = 0) -> int:
    """How many fills are stored, once there are so many."""
    async with history(stack) as connection:

        async def stored() -> bool:
            return await connection.fetchval("SELECT count(*) FROM fills") >= at_least

        await eventually(stored, 60, f"{at_least} fills stored")
        return int(await connection.fetchval("SELECT count(*) FROM fills"))


async def trades_on(stack: GuardedStack) -> None:
    await fills(stack, await fills(stack) + 2)


def whole(spans: list[Seen]) -> bool:
    """Whether a trace reaches from a frame to a fill."""
    return {"frame", "signal", "decision", "place_order", "order", "fill"} <= {span.name.partition(" ")[0] for span in spans}


@pytest.mark.timeout(200)
async def test_a_guarded_stack_trades_and_comes_back_from_a_backup(
    stack: GuardedStack, collector: Collector, tmp_path: Path
) -> None:
    await trades_on(stack)
    await an_order_can_be_followed(collector)
    for words in (("bus", "lag"), ("trades",)):
        code, text = await stack.run(*words)
        assert code == 0, text
    assert "NOPERM" not in stack.printed()
    assert "permission denied" not in stack.printed()

    saved = await backup(stack, tmp_path)
    known = await fills(stack)
    await trades_on(stack)
    stack.kill()
    lost = VenueTruth(stack.homes / LEDGER)
    assert len(lost.fills) > known, "the venue must have done something that the backup does not know of"
    for home in stack.homes.iterdir():
        if home.name != "simulator-binance":
            shutil.rmtree(home)
            home.mkdir()

    code, text = await stack.run("restore", str(saved), "--homes", str(stack.homes), "--force", role="owner")
    assert code == 0, text
    await stack.start()

    await fills(stack, len(lost.fills))
    await trades_on(stack)
    assert await settled(stack) == []
    async with history(stack, "owner") as connection:  # what was there is put aside, not away
        assert await connection.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'simulation_before_restore_%'") == 1
    after = VenueTruth(stack.homes / LEDGER)
    assert max(after.accepted.values()) == 1, "an order was sent again"
    assert "NOPERM" not in stack.printed()
    assert "permission denied" not in stack.printed()


async def an_order_can_be_followed(collector: Collector) -> None:
    traces = await eventually(lambda: [spans for spans in collector.traces.values() if whole(spans)], 20, "the trace of an order")
    for spans in traces:
        by_id = {span.span: span for span in spans}
        first = {span.name.partition(" ")[0]: span for span in reversed(spans)}
        assert [first[name].service for name in ("frame", "signal", "decision", "place_order", "order", "fill")] == [
            "connector-binance", "bot", "bot", "bot", "connector-binance", "connector-binance",
        ]  # fmt: skip
        assert by_id[first["signal"].parent] == first["frame"]
        assert by_id[first["fill"].parent] == first["place_order"]
        ends = [first[name].end_ns for name in ("frame", "signal", "decision", "place_order", "order")]
        assert ends == sorted(ends)
        assert all(span.start_ns <= span.end_ns for span in spans)


async def backup(stack: GuardedStack, folder: Path) -> Path:
    """A backup of the homes by the operator and the owner, who needs no other right."""
    target = folder / "backups"
    code, text = await stack.run("backup", str(target), "--homes", str(stack.homes), "--json", role="owner")
    assert code == 0, text
    saved = Path(json.loads(text)["file"])
    assert [(path, path.stat().st_mode & 0o777) for path in target.iterdir()] == [(saved, 0o600)]
    return saved


async def settled(stack: GuardedStack) -> list[str]:
    """Halt, and wait until what is stored agrees with the venue; what differs after a while is returned."""
    code, text = await stack.run("halt", "--reason", "end of the test")
    assert code == 0, text
    found = ["not compared"]
    async with history(stack) as connection:

        async def agree() -> bool:
            nonlocal found
            found = await disagreements(stack.homes / LEDGER, connection)
            return not found

        with suppress(AssertionError):
            await eventually(agree, 30, "agreement")
    return found
