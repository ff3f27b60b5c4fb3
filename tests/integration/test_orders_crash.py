"""A connector killed at the worst instants, and connectors where only one may be: every command still ends as one order or none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime import emergency_stop
from tests.fakes.binance_fake import FakeBinance, Fault
from tests.fakes.trading_desk import Desk
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def venue() -> AsyncIterator[FakeBinance]:
    async with FakeBinance().running() as fake:
        yield fake


@pytest.fixture
async def desk(tmp_path: Path, valkey_url: str, venue: FakeBinance) -> AsyncIterator[Desk]:
    desk = Desk(home=tmp_path, url=valkey_url, venue=venue)
    async with desk.listening():
        yield desk


async def start(desk: Desk, crash: str = "", home: Path | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fakes.connector_process", str(home or desk.home), desk.url, str(desk.venue.port), desk.account,
        cwd=ROOT, env={**os.environ, "CHAOS_CRASH": crash}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@contextlib.asynccontextmanager
async def connector(desk: Desk, crash: str = "", home: Path | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await start(desk, crash, home)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        await process.communicate()


async def until_killed(process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(15):
        await process.communicate()
    assert process.returncode == 137


@pytest.mark.parametrize("point", ["after-intent", "after-sent", "after-answer", "before-ack"])
async def test_a_kill_at_any_point_of_an_order_leaves_one_order_or_a_stated_reason(
    desk: Desk, venue: FakeBinance, point: str
) -> None:
    venue.faults.append(Fault(fill=True))  # the hard case: its id is free again
    command = desk.order()
    async with connector(desk, f"{point}:1") as process:
        await desk.give(command)
        await until_killed(process)
    sent_before = len(venue.orders)
    async with connector(desk):
        end = await desk.reaches(command, "FILLED", "REJECTED", "EXPIRED")
        follow_up = desk.order()
        await desk.give(follow_up)
        await desk.reaches(follow_up, "OPEN", "FILLED")

    accepted = venue.accepted(desk.id_of(command))
    assert venue.places[desk.id_of(command)] <= 1
    if end.status.value == "FILLED":
        assert len(accepted) == 1
        assert "1" in desk.fills()
    else:
        assert (accepted, end.code) == ([], "NOT_PLACED")
    if point == "after-intent":
        assert (sent_before, end.status.value) == (0, "FILLED"), "an accepted order that was never sent is sent after the restart"
    if point == "after-sent":
        assert "UNKNOWN" in {update.status.value for update in desk.updates(command)}
        assert end.code == "NOT_PLACED", "SENT was on disk and no byte left: only a search may decide"


async def test_an_intent_whose_command_expired_meanwhile_is_not_sent(desk: Desk, venue: FakeBinance) -> None:
    async with connector(desk, "after-intent:1") as process:
        await eventually(lambda: desk.statuses("user_data"), 15)
        command = desk.order(expires_at_ns=_now_ns() + 1_500_000_000)
        await desk.give(command)
        await until_killed(process)
    await eventually(lambda: command.expires_at_ns < _now_ns(), 10)
    async with connector(desk):
        end = await desk.reaches(command, "EXPIRED")
    assert end.code == "EXPIRED_LOCALLY"
    assert not venue.orders


async def test_commands_that_waited_past_their_expiry_never_become_orders(desk: Desk, venue: FakeBinance) -> None:
    late = [desk.order(expires_at_ns=_now_ns()) for _ in range(50)]
    await desk.give(*late)
    async with connector(desk):
        for command in late:
            await desk.reaches(command, "EXPIRED")
    assert not venue.orders


async def test_a_second_connector_on_the_same_home_refuses_to_start_and_says_why(desk: Desk) -> None:
    async with connector(desk):
        await eventually(lambda: desk.statuses("user_data"), 15)
        second = await start(desk)
        _, errors = await second.communicate()
    assert second.returncode == 1
    assert b"one account has one writer" in errors


async def test_after_a_kill_the_same_home_serves_again_at_once(desk: Desk, venue: FakeBinance) -> None:
    async with connector(desk) as first:
        await eventually(lambda: desk.statuses("user_data"), 15)
        first.kill()
        await first.communicate()
    began_s = asyncio.get_running_loop().time()
    async with connector(desk):
        command = desk.order()
        await desk.give(command)
        await desk.reaches(command, "OPEN")
    assert asyncio.get_running_loop().time() - began_s < 6, "no wait for a lease whose holder is proved dead"
    assert len(venue.orders) == 1


async def test_a_stop_pressed_while_the_connector_is_down_holds_after_its_start(desk: Desk, venue: FakeBinance) -> None:
    emergency_stop.press(desk.home, "while down", "tester")
    command = desk.order()
    await desk.give(command)
    async with connector(desk):
        assert (await desk.reaches(command, "REJECTED")).code == "HALTED"
    assert not venue.orders


def _now_ns() -> int:
    from runtime.clock import now_ns

    return now_ns()
