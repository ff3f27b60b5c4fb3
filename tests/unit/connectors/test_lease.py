"""One writer per account: two locks, an epoch that only rises, and a lease that ends before the next one begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bus.connection import Connection
from connectors import lease as lease_module
from connectors.lease import HostLock, Lease, LeaseHeld
from tests.fakes.trading_desk import new_account
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"VALID_S": 0.2, "RENEW_EVERY_S": 0.03, "CLOCK_BOUND_S": 0.05, "MARGIN_S": 0.05}.items():
        monkeypatch.setattr(lease_module, name, value)


Make = Callable[[Path, str], tuple[HostLock, Lease]]


@pytest.fixture
def make(valkey_url: str) -> Make:
    account = new_account()

    def make_one(home: Path, installation: str) -> tuple[HostLock, Lease]:
        lock = HostLock(home, "simulation", "binance", account)
        key = f"simulation:lease:{{binance}}:{account}"
        return lock, Lease(lock, lambda: Connection.open(valkey_url), key, installation, recv_window_s=0.1)

    return make_one


async def test_a_living_connector_on_the_same_home_cannot_be_joined(make: Make, tmp_path: Path) -> None:
    lock, _ = make(tmp_path, "aaaaaaa")
    with pytest.raises(LeaseHeld, match=r"process \d+"):
        make(tmp_path, "aaaaaaa")
    lock.close()


async def test_on_the_same_home_the_successor_of_a_dead_process_need_not_wait(make: Make, tmp_path: Path) -> None:
    lock, first = make(tmp_path, "aaaaaaa")
    assert await first.acquire() == 1
    lock.close()  # what the kernel does when a process is killed; its key on the bus is still there
    lock, second = make(tmp_path, "aaaaaaa")
    began_s = lease_module.boot_s()
    assert await second.acquire() == 2
    assert lease_module.boot_s() - began_s < second.life_s / 2
    lock.close()


async def test_a_connector_elsewhere_is_refused_while_the_holder_renews(make: Make, tmp_path: Path) -> None:
    _, first = make(tmp_path / "one", "aaaaaaa")
    _, second = make(tmp_path / "two", "bbbbbbb")
    await first.acquire()
    keeper = asyncio.create_task(first.keep())
    with pytest.raises(LeaseHeld, match="one account has one writer"):
        await second.acquire()
    assert first.held
    keeper.cancel()


async def test_a_frozen_holder_is_fenced_before_the_next_may_send(make: Make, tmp_path: Path) -> None:
    """SIGSTOP of the first, takeover elsewhere, SIGCONT: the first finds its lease over, and learns of its successor."""
    _, first = make(tmp_path / "one", "aaaaaaa")
    _, second = make(tmp_path / "two", "bbbbbbb")
    await first.acquire()
    assert first.held
    acquiring = asyncio.create_task(second.acquire())
    await eventually(lambda: not first.held)
    assert not acquiring.done(), "W, the clock bound and the margin lie between the end of one and the start of the next"
    assert await acquiring == 2
    assert second.held
    assert not first.held
    with pytest.raises(LeaseHeld, match="taken over"):
        await first.keep()
    assert not first.held


async def test_epochs_rise_even_when_the_bus_forgot_them(make: Make, tmp_path: Path, valkey_url: str) -> None:
    lock, first = make(tmp_path, "aaaaaaa")
    await first.acquire()
    await first.release()
    bus = await Connection.open(valkey_url)
    await bus.command("DEL", f"{first._key}:epoch")
    bus.close()
    lock.close()
    lock, second = make(tmp_path, "aaaaaaa")
    assert await second.acquire() == 2
    lock.close()


async def test_without_a_bus_the_lease_runs_out_and_comes_back_with_it(make: Make, tmp_path: Path) -> None:
    _, lease = make(tmp_path, "aaaaaaa")
    await lease.acquire()
    working = lease._open_bus
    keeper = asyncio.create_task(lease.keep())

    async def away() -> Connection:
        raise OSError("no route")

    lease._open_bus = away
    assert lease._bus is not None
    lease._bus.close()
    await eventually(lambda: not lease.held)
    lease._open_bus = working
    await eventually(lambda: lease.held)
    keeper.cancel()
    await lease.release()
    assert not lease.held
