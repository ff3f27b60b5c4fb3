"""The schema: up and down, a schema per mode, concurrent and killed migrators, newer tables than code."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from postgres import migrate
from postgres.pool import open_pool
from postgres.schema import HEAD, PARTITIONED, SchemaError
from postgres.tables import TABLES
from runtime.settings import PostgresSettings
from tests.support.waiting import eventually

SETTINGS = PostgresSettings()

CATALOG = """
SELECT 'column', table_name, column_name, data_type || is_nullable || coalesce(collation_name, '') FROM information_schema.columns
WHERE table_schema = $1
UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = $1
UNION ALL SELECT 'comment', relname, '', obj_description(oid) FROM pg_class
WHERE relnamespace = to_regnamespace($1) AND relkind <> 't'
UNION ALL SELECT 'function', proname, '', prosrc FROM pg_proc WHERE pronamespace = to_regnamespace($1)
ORDER BY 1, 2, 3, 4
"""


async def catalog(url: str, schema: str) -> list[tuple[str, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(CATALOG, schema)]
    finally:
        await connection.close()


async def upgraded(url: str, mode: str) -> str:
    return await asyncio.to_thread(migrate.upgrade, url, mode)


async def test_up_down_up_gives_the_same_tables_and_down_leaves_only_the_version_table(database_url: str) -> None:
    assert await upgraded(database_url, "simulation") == HEAD == migrate.head()
    before = await catalog(database_url, "simulation")

    assert await asyncio.to_thread(migrate.downgrade, database_url, "simulation", "base") is None
    assert {name for _, name, *_ in await catalog(database_url, "simulation")} == {"alembic_version", "alembic_version_pkc"}

    assert await upgraded(database_url, "simulation") == HEAD
    assert await catalog(database_url, "simulation") == before
    tables = {row[1] for row in before if row[0] == "comment"}
    assert {"trades", "tickers", "order_books", "ohlcv", "orders", "fills", "balances", "positions", "signals"} <= tables
    assert {"decisions", "alerts", "gaps", "round_trips"} <= tables


async def test_upgrading_again_changes_nothing(database_url: str) -> None:
    await upgraded(database_url, "simulation")
    before = await catalog(database_url, "simulation")
    assert await upgraded(database_url, "simulation") == HEAD
    assert await catalog(database_url, "simulation") == before


async def test_two_modes_lie_side_by_side(database_url: str) -> None:
    await upgraded(database_url, "simulation")
    assert await asyncio.to_thread(migrate.current, database_url, "paper") is None
    await upgraded(database_url, "paper")
    await asyncio.to_thread(migrate.downgrade, database_url, "paper", "base")

    assert await asyncio.to_thread(migrate.current, database_url, "simulation") == HEAD
    async with await open_pool(database_url, "simulation", SETTINGS) as pool:
        assert await pool.fetchval("SELECT count(*) FROM trades") == 0


async def test_concurrent_migrators_wait_for_each_other(database_url: str) -> None:
    assert await asyncio.gather(*(upgraded(database_url, "simulation") for _ in range(4))) == [HEAD] * 4


async def test_a_migration_killed_half_way_leaves_nothing_and_the_next_one_succeeds(database_url: str) -> None:
    blocker, watcher = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    await blocker.execute("CREATE SCHEMA simulation")
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("CREATE TABLE simulation.gaps ()")  # the migrator comes to its own gaps late, and waits
    killed = asyncio.create_task(upgraded(database_url, "simulation"))
    stuck = "application_name = 'tradebot migrate' AND wait_event_type = 'Lock' AND query LIKE '%TABLE gaps%'"
    terminate = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {stuck}"
    await eventually(lambda: watcher.fetch(terminate))
    with pytest.raises(Exception, match=r"terminat|closed"):
        await killed
    await transaction.rollback()
    await asyncio.gather(blocker.close(), watcher.close())

    assert await catalog(database_url, "simulation") == []
    assert await upgraded(database_url, "simulation") == HEAD


async def test_tables_of_a_newer_version_are_refused_by_migrations_and_by_connections(database_url: str) -> None:
    await upgraded(database_url, "simulation")
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE simulation.alembic_version SET version_num = '9999'")
    await connection.close()

    with pytest.raises(SchemaError, match="newer tradebot"):
        await upgraded(database_url, "simulation")
    async with await open_pool(database_url, "simulation", SETTINGS) as pool:
        with pytest.raises(SchemaError, match="update tradebot"):
            await pool.fetchval("SELECT 1")


async def test_a_mode_without_tables_says_what_to_do(database_url: str) -> None:
    async with await open_pool(database_url, "simulation", SETTINGS) as pool:
        with pytest.raises(SchemaError, match="tradebot db migrate"):
            await pool.fetchval("SELECT 1")


async def test_the_code_and_the_tables_agree(database_url: str) -> None:
    """Every column that the recorder writes exists, and the list of partitioned tables is that of the database."""
    await upgraded(database_url, "simulation")
    columns: dict[str, set[str]] = {}
    for what, table, column, _ in await catalog(database_url, "simulation"):
        if what == "column":
            columns.setdefault(table, set()).add(column)
    for table in TABLES.values():
        for name in table.names:
            assert columns[name] == set(table.columns), name

    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch(
        "SELECT relname, pg_get_partkeydef(oid) AS key FROM pg_class "
        "WHERE relkind = 'p' AND relnamespace = 'simulation'::regnamespace"
    )
    await connection.close()
    assert {row["relname"]: row["key"] for row in rows} == {table: f"RANGE ({column})" for table, column in PARTITIONED.items()}


@pytest.mark.parametrize("mode", ['x"; DROP SCHEMA public', "", "Paper", "a" * 60])
def test_a_mode_that_is_no_name_is_refused_before_it_reaches_sql(mode: str) -> None:
    with pytest.raises(ValueError, match="not a mode"):
        migrate.upgrade("postgresql://127.0.0.1:1/none", mode)
