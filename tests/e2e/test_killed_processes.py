"""With orders flowing, every process is killed; it comes back, trading goes on, and at the end the venue's ledger and ours agree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from runtime.endpoints import NotRunning
from tests.support import metrics_table
from tests.support.agreement import disagreements
from tests.support.stack import Stack
from tests.support.waiting import eventually

PROCESSES = ("connector-binance", "bot", "recorder", "valkey", "postgres", "simulator-binance")

LIVELY = {
    "TRADEBOT__BOT__PLUGINS": "{sma: {mode: live, settings: {source: ticks, fast_period: 5, slow_period: 20}}, ema: {mode: off},"
    " rsi: {mode: off}, bollinger_bands: {mode: off}}",
    "TRADEBOT__BOT__RISK__COOLDOWN_S": "0.3",
    "TRADEBOT__BOT__RISK__MIN_OPINIONS": "1",
    "TRADEBOT__BOT__RISK__CONSENSUS_THRESHOLD": "0.3",
    "TRADEBOT__EXCHANGES__BINANCE__RECONCILE_EVERY_S": "5",
    "TRADEBOT__SUPERVISOR__RESTART_FIRST_S": "0.1",
}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path / "home", LIVELY)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.end()


async def fills(stack: Stack) -> int:
    """Fills that are stored now; 0 while the database is away."""
    try:
        connection = await stack.connect()
        try:
            return int(await connection.fetchval("SELECT count(*) FROM fills"))
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, NotRunning):
        return 0


async def trading_goes_on(stack: Stack, after: str) -> None:
    before = await fills(stack)

    async def more() -> bool:
        return await fills(stack) > before + 1

    await eventually(more, 80, f"fills stored after {after}")


async def settled(stack: Stack) -> list[str]:
    """Halt, and wait until what is stored agrees with the ledger; what still differs after a while is returned."""
    code, text = await stack.run("halt", "--reason", "end of the test")
    assert code == 0, text
    ledger = stack.home / "simulator/binance/ledger.log"
    found: list[str] = ["not compared"]

    async def agree() -> bool:
        nonlocal found
        connection = await stack.connect()
        try:
            found = await disagreements(ledger, connection)
        finally:
            await connection.close()
        return not found

    try:
        await eventually(agree, 30, "agreement")
    except AssertionError:
        return found
    return []


@pytest.mark.timeout(200)
async def test_every_process_may_be_killed_once(stack: Stack) -> None:
    await trading_goes_on(stack, "the start")
    for name in PROCESSES:
        await stack.kill(name)
        await trading_goes_on(stack, f"SIGKILL of {name}")

    stack.kill_supervisor()
    await stack.start()
    await trading_goes_on(stack, "SIGKILL of the supervisor")
    assert await metrics_table.disagreements(stack) == []

    assert await settled(stack) == []
    assert await stack.stop() == 0
    assert stack.left_over() == []


@pytest.mark.chaos
@pytest.mark.timeout(1200)
async def test_every_process_may_be_killed_five_times(stack: Stack) -> None:
    await trading_goes_on(stack, "the start")
    for _ in range(5):
        for name in PROCESSES:
            await stack.kill(name)
            await trading_goes_on(stack, f"SIGKILL of {name}")
        stack.kill_supervisor()
        await stack.start()
        await trading_goes_on(stack, "SIGKILL of the supervisor")
        assert await settled(stack) == []
        code, text = await stack.run("resume")
        assert code == 0, text
    assert await stack.stop() == 0
    assert stack.left_over() == []
