"""PostgreSQL dies, freezes and comes back: nothing that was acknowledged is missing, and order is kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import common_models as cm
from bus.errors import BusUnavailable
from bus.interfaces import Delivery, Retry
from postgres import migrate
from postgres.intake import DeadLetter, Intake
from postgres.pool import Link
from postgres.spool import Spool
from postgres.thinning import Thinner
from runtime.settings import PostgresSettings
from tests.support.servers import ServerProcess
from tests.support.waiting import eventually
from tests.unit.postgres.samples import book, order, trade

STREAM = "simulation:events:{binance}:trades"


class Bench:
    """One intake with everything that it leans on, and what it told the world."""

    def __init__(self, server: ServerProcess, directory: Path, spool_bytes: int = 10_000_000, timeout_s: float = 5.0) -> None:
        self.server = server
        self.ready: tuple[bool, str] = (False, "")
        self.alerts: list[str] = []
        self.parked: list[DeadLetter] = []
        self.bus_away = False
        self.link = Link(lambda: server.url, "simulation", PostgresSettings(statement_timeout_s=timeout_s))
        self.spool = Spool(directory, spool_bytes, segment_bytes=2000)
        self.intake = Intake(
            "market",
            self.link,
            self.spool,
            Thinner({cm.OrderBook: 1.0}),
            park=self._park,
            report=self._report,
            tell=lambda level, code, text: self.alerts.append(code),
            batch_rows=50,
        )

    async def _park(self, letters: Sequence[DeadLetter]) -> None:
        if self.bus_away:
            raise BusUnavailable("cut off")
        self.parked += letters

    def _report(self, ok: bool, detail: str) -> None:
        self.ready = (ok, detail)

    @contextlib.asynccontextmanager
    async def draining(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.intake.drain(stop))
        yield
        stop.set()
        await task
        await self.link.close()
        self.spool.close()

    async def give(self, *messages: cm.Message) -> None:
        await self.intake.handle([Delivery(STREAM, f"{at}-0", message) for at, message in enumerate(messages)])

    async def stored(self, query: str = "SELECT trade_id FROM simulation.trades ORDER BY trade_id::int") -> list[Any]:
        connection = await asyncpg.connect(self.server.url)
        try:
            return [row[0] for row in await connection.fetch(query)]
        finally:
            await connection.close()


@pytest.fixture
def server(own_postgres: Callable[[], ServerProcess]) -> Iterator[ServerProcess]:
    running = own_postgres()
    migrate.upgrade(running.url, "simulation")
    return running


async def test_killed_under_load_every_acknowledged_entry_is_stored_once(server: ServerProcess, tmp_path: Path) -> None:
    bench, acknowledged = Bench(server, tmp_path), 0
    async with bench.draining():
        for round_number in range(30):
            if round_number in (8, 19):
                await asyncio.gather(bench.give(*(trade(acknowledged + n) for n in range(40))), asyncio.to_thread(server.kill))
            else:
                await bench.give(*(trade(acknowledged + n) for n in range(40)))
            acknowledged += 40
            if round_number in (13, 24):
                assert bench.ready[0]
                assert "spooling" in bench.ready[1]
                await asyncio.to_thread(server.start)
            if round_number == 16:
                await eventually(lambda: bench.spool.empty, 15)
        await eventually(lambda: bench.spool.empty, 15)

        assert await bench.stored() == [str(n) for n in range(acknowledged)]
        assert bench.ready == (True, "")
        assert bench.intake.spooled > 0
    assert bench.alerts == ["RECORDER_SPOOLING", "RECORDER_SPOOL_DRAINED"] * 2


async def test_the_spool_is_drained_in_order_and_new_batches_wait_behind_it(server: ServerProcess, tmp_path: Path) -> None:
    bench = Bench(server, tmp_path)
    server.kill()
    for revision in range(0, 80, 8):
        await bench.give(*(order(revision + n) for n in range(8)))
    server.start()
    async with bench.draining():
        await bench.give(order(80))
        await eventually(lambda: bench.spool.empty, 15)
        await bench.give(order(81))
        # rows lie in the order of their insertion, since nothing was updated or deleted
        assert await bench.stored("SELECT revision FROM simulation.order_events ORDER BY ctid") == list(range(82))
        assert await bench.stored("SELECT revision FROM simulation.orders") == [81]


async def test_a_recorder_killed_while_spooling_goes_on_with_what_it_left(server: ServerProcess, tmp_path: Path) -> None:
    server.kill()
    old = Bench(server, tmp_path)
    for n in range(0, 60, 20):
        await old.give(*(trade(n + k) for k in range(20)))
    old.spool.close()  # as the kernel does for a killed process: files as they are, locks gone

    server.start()
    new = Bench(server, tmp_path)
    async with new.draining():
        await new.give(trade(60))
        await eventually(lambda: new.spool.empty, 15)
        await new.give(trade(61))
        assert await new.stored() == [str(n) for n in range(62)]


async def test_a_full_spool_stops_acknowledging_and_tells(server: ServerProcess, tmp_path: Path) -> None:
    bench = Bench(server, tmp_path, spool_bytes=6000)
    server.kill()
    taken = 0
    with contextlib.suppress(Retry):
        while taken < 500:
            await bench.give(*(trade(taken + n) for n in range(5)))
            taken += 5
    assert 0 < taken < 500
    assert not bench.ready[0]
    assert "nothing is acknowledged" in bench.ready[1]
    with pytest.raises(Retry, match="spool_mb"):
        await bench.give(*(trade(taken + n) for n in range(5)))
    assert bench.alerts == ["RECORDER_SPOOLING", "RECORDER_SPOOL_FULL"]

    server.start()
    async with bench.draining():
        await eventually(lambda: bench.spool.empty, 15)
        await bench.give(*(trade(taken + n) for n in range(5)))
        assert await bench.stored() == [str(n) for n in range(taken + 5)]
        assert bench.ready == (True, "")


async def test_a_frozen_server_is_given_up_in_bounded_time(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postgres.pool.CLIENT_GRACE_S", 0.3)
    monkeypatch.setattr("postgres.pool.CONNECT_TIMEOUT_S", 0.5)
    bench = Bench(server, tmp_path, timeout_s=0.3)
    await bench.give(trade(1))
    (backend,) = await bench.stored("SELECT pid FROM pg_stat_activity WHERE application_name = 'tradebot simulation'")
    frozen = await asyncio.create_subprocess_exec("kill", "-STOP", str(backend))
    await frozen.wait()
    server.freeze()
    async with asyncio.timeout(3):
        await bench.give(trade(2))
    assert not bench.spool.empty

    server.thaw()
    await (await asyncio.create_subprocess_exec("kill", "-CONT", str(backend))).wait()
    async with bench.draining():
        await eventually(lambda: bench.spool.empty, 15)
        assert await bench.stored() == ["1", "2"]


async def test_bad_rows_are_parked_from_the_spool_too_and_thinned_books_are_not_stored(
    server: ServerProcess, tmp_path: Path
) -> None:
    bench = Bench(server, tmp_path)
    await bench.give(trade(1), trade(2, trade_id="\x00"), book(1), book(2))
    server.kill()
    await bench.give(trade(3), trade(4, trade_id="\x00"), book(3))
    server.start()
    async with bench.draining():
        await eventually(lambda: bench.spool.empty, 15)
        assert await bench.stored() == ["1", "3"]
        assert await bench.stored("SELECT sequence FROM simulation.order_books") == [1]
    assert [letter.stream for letter in bench.parked] == [STREAM, STREAM]
    assert all("CharacterNotInRepertoire" in letter.reason for letter in bench.parked)
    assert (bench.intake.refused, bench.intake.thinner.thinned) == (2, 2)


async def test_a_bad_row_is_not_acknowledged_before_it_is_in_the_dead_letters(server: ServerProcess, tmp_path: Path) -> None:
    bench, bad = Bench(server, tmp_path), trade(2, trade_id="\x00")
    bench.bus_away = True
    with pytest.raises(Retry, match="dead letters"):
        await bench.give(trade(1), bad)
    server.kill()
    await bench.give(bad)
    server.start()
    async with bench.draining():
        await eventually(lambda: "Retry" in bench.ready[1])
        bench.bus_away = False
        await eventually(lambda: bench.spool.empty, 15)
        await bench.give(trade(1), bad)
        assert await bench.stored() == ["1"]
    assert len(bench.parked) == 2


async def test_tables_that_are_not_there_yet_are_waited_for(own_postgres: Callable[[], ServerProcess], tmp_path: Path) -> None:
    bench = Bench(own_postgres(), tmp_path)
    async with bench.draining():
        await eventually(lambda: "tradebot db migrate" in bench.ready[1])
        assert not bench.ready[0]
        await bench.give(trade(1))
        await asyncio.to_thread(migrate.upgrade, bench.server.url, "simulation")
        await eventually(lambda: bench.spool.empty and bench.ready[0], 15)
        assert await bench.stored() == ["1"]
