"""The drill with the bundled servers: saved, traded on, everything lost but the venue, restored, and in agreement again.

The same with servers of one's own, a user and a role for each service, is in test_guarded_stack.py and part of every run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.test_killed_processes import LIVELY, fills, settled, trading_goes_on
from tests.support.agreement import VenueTruth
from tests.support.stack import Stack
from tests.support.waiting import eventually

LEDGER = "simulator/binance/ledger.log"


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path / "home", LIVELY)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.end()


def lose_everything_but_the_venue(stack: Stack) -> None:
    """What a lost disk leaves: the exchange, which is somebody else's."""
    for path in stack.home.iterdir():
        if path.name == "simulator":
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.chaos
@pytest.mark.timeout(240)
async def test_after_a_restore_ledger_and_venue_agree_and_nothing_is_sent_again(stack: Stack, tmp_path: Path) -> None:
    await trading_goes_on(stack, "the start")
    code, text = await stack.run("backup", str(tmp_path), "--json")
    assert code == 0, text
    saved = Path(json.loads(text)["file"])
    stored = await fills(stack)

    await trading_goes_on(stack, "the backup")
    stack.kill_supervisor()
    await stack.run("down")
    lost = VenueTruth(stack.home / LEDGER)
    assert len(lost.fills) > stored  # the venue did things that the backup does not know of
    lose_everything_but_the_venue(stack)

    code, text = await stack.run("restore", str(saved))
    assert code == 0, text
    before = VenueTruth(stack.home / LEDGER)
    await stack.start()

    async def caught_up() -> bool:
        return await fills(stack) >= len(before.fills)

    await eventually(caught_up, 40, "every fill of the venue stored")
    await trading_goes_on(stack, "the restore")
    assert await settled(stack) == []
    after = VenueTruth(stack.home / LEDGER)
    assert max(after.accepted.values()) == 1, "an order was sent again"
    assert before.orders.keys() <= after.orders.keys()
    assert await stack.stop() == 0
