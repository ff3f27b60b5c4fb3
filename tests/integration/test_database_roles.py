"""A role per service on a real PostgreSQL: each can do its work, and is refused what is not its work."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from postgres import migrate, queries
from postgres.partitions import DAY_NS, maintain
from postgres.pool import Link
from postgres.roles import ROLES, RolesError, make_roles, scram_verifier, take_over
from postgres.writer import HistoryWriter
from runtime.settings import PostgresSettings
from tests.unit.postgres.samples import NOW_NS, one_of_each, trade

MODE = "simulation"
PASSWORDS = {role.name: f"password-of-{role.name}-{os.getpid()}" for role in ROLES}
DAY = NOW_NS // DAY_NS * DAY_NS


def url_of(database_url: str, role: str, password: str = "") -> str:
    parts = urlsplit(database_url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"tradebot_{role}:{password or PASSWORDS[role]}@{host}").geturl()


@pytest.fixture
async def guarded(database_url: str) -> AsyncIterator[str]:
    """A database with the roles and, made by the owner, the tables."""
    admin = await asyncpg.connect(database_url)
    try:
        await make_roles(admin, PASSWORDS)
        await asyncio.to_thread(migrate.upgrade, url_of(database_url, "owner"), MODE)
        yield database_url
    finally:
        await admin.close()


async def connect(database_url: str, role: str) -> asyncpg.Connection:
    return await asyncpg.connect(url_of(database_url, role), server_settings={"search_path": MODE})


def link(database_url: str, role: str) -> Link:
    return Link(lambda: url_of(database_url, role), MODE, PostgresSettings())


async def test_the_recorder_writes_everything_and_keeps_the_partitions(guarded: str) -> None:
    recorder = link(guarded, "recorder")
    batch = [*one_of_each(), trade(7)]
    stored = await recorder.run(lambda connection: HistoryWriter().store(connection, batch))
    again = await recorder.run(lambda connection: HistoryWriter().store(connection, batch))
    assert stored.refused == again.refused == []
    assert again.duplicates > 0

    done = await recorder.run(lambda connection: maintain(connection, DAY, {"trades": 1}))
    later = await recorder.run(lambda connection: maintain(connection, DAY + 3 * DAY_NS, {"trades": 1}))
    await recorder.close()
    assert len(done.created) > 10
    assert done.postponed == later.postponed == []


async def test_readers_see_the_history_and_the_bot_what_it_warms_up_from(guarded: str) -> None:
    recorder = link(guarded, "recorder")
    await recorder.run(lambda connection: HistoryWriter().store(connection, one_of_each()))
    await recorder.close()
    for role in ("reader", "alerts"):
        reader = link(guarded, role)
        assert len(await reader.run(lambda connection: queries.recent_fills(connection, 10))) == 1
        await reader.close()
    bot = link(guarded, "bot")
    assert await bot.run(lambda connection: queries.recent_candles(connection, "binance", "BTC/USDT", "1m", 10))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await bot.run(lambda connection: queries.recent_fills(connection, 10))
    await bot.close()


async def test_alerts_keep_their_states_and_the_command_line_speaks_to_them(guarded: str) -> None:
    alerts, operator = await connect(guarded, "alerts"), await connect(guarded, "operator")
    columns = await alerts.fetchval("SELECT count(*) FROM information_schema.columns WHERE table_name = 'alert_states'")
    assert columns > 10
    await alerts.execute("INSERT INTO alert_states SELECT * FROM alert_states ON CONFLICT DO NOTHING")
    await alerts.execute("INSERT INTO alert_deliveries SELECT * FROM alert_deliveries")
    await alerts.execute("UPDATE alert_states SET phase = 'resolved' WHERE false")
    await operator.execute("INSERT INTO alert_actions (alert_id, phase, actor, made_ns) VALUES ('x', 'resolved', 'me', 1)")
    await operator.execute("UPDATE alert_states SET phase = 'resolved' WHERE false")
    assert await alerts.fetchval("SELECT count(*) FROM alert_actions") == 1
    for table in ("alert_deliveries", "alert_actions"):  # forgotten after a while
        await alerts.execute(f"DELETE FROM {table}")
    await alerts.close()
    await operator.close()


EVERYBODY = [role.name for role in ROLES]
SERVICES = [name for name in EVERYBODY if name != "owner"]
FORBIDDEN = [
    *((role, "CREATE TABLE public.mine (n int)") for role in EVERYBODY),
    *((role, "CREATE ROLE mine") for role in EVERYBODY),
    *((role, "COPY (SELECT 1) TO PROGRAM 'true'") for role in EVERYBODY),
    *((role, "SELECT pg_read_file('/etc/passwd')") for role in EVERYBODY),
    *((role, "SELECT rolpassword FROM pg_authid") for role in EVERYBODY),
    *((role, "SELECT pg_reload_conf()") for role in EVERYBODY),
    *((role, "SET ROLE tradebot_owner") for role in SERVICES),
    *((role, "CREATE TABLE simulation.mine (n int)") for role in SERVICES),
    *((role, "CREATE SCHEMA mine") for role in SERVICES),
    *((role, "DROP TABLE orders") for role in SERVICES),
    *((role, "DELETE FROM fills") for role in SERVICES),
    *((role, "TRUNCATE trades") for role in SERVICES),
    *((role, "UPDATE fills SET price = 1") for role in SERVICES),
    *((role, "UPDATE alembic_version SET version_num = '9'") for role in SERVICES),
    *((role, "INSERT INTO orders SELECT * FROM orders") for role in SERVICES if role != "recorder"),
    *((role, "SELECT make_day_partition('trades', 0)") for role in SERVICES if role != "recorder"),
    *((role, "SELECT drop_day_partition('trades', '20200101')") for role in SERVICES if role != "recorder"),
    *((role, "CREATE TEMPORARY TABLE mine (n int)") for role in ("bot", "alerts", "operator", "reader", "exporter")),
    *(
        (role, "INSERT INTO alert_states SELECT * FROM alert_states")
        for role in ("recorder", "bot", "operator", "reader", "exporter")
    ),
    *((role, "UPDATE alert_states SET phase = 'resolved'") for role in ("recorder", "bot", "reader", "exporter")),
    *((role, "DELETE FROM alert_states") for role in SERVICES),
    *((role, "DELETE FROM alert_actions") for role in SERVICES if role != "alerts"),
    ("bot", "SELECT * FROM orders"),
    ("bot", "SELECT * FROM decisions"),
    ("exporter", "SELECT * FROM orders"),
]


async def test_each_role_is_refused_what_is_not_its_work(guarded: str) -> None:
    connections = {role: await connect(guarded, role) for role in EVERYBODY}
    done = []
    for role, statement in FORBIDDEN:
        try:
            async with connections[role].transaction():
                await connections[role].execute("SET TRANSACTION READ WRITE")  # the default is no boundary
                await connections[role].execute(statement)
            done.append((role, statement))
        except asyncpg.InsufficientPrivilegeError:
            continue
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError):
            assert role == "exporter", (role, statement)  # without a right to the schema there is nothing to see
    for connection in connections.values():
        await connection.close()
    assert done == []


MISUSED = (
    "SELECT make_day_partition('orders', 0)",
    "SELECT make_day_partition('trades', 5)",
    "SELECT make_day_partition($x$trades; DROP TABLE fills; --$x$, 0)",
    "SELECT drop_day_partition('orders', '20200101')",
    "SELECT drop_day_partition('trades', 'default')",
    "SELECT drop_day_partition('trades', to_char(now(), 'YYYYMMDD'))",
    "SELECT delete_stray_rows('fills', 0)",
    "SELECT delete_stray_rows('trades', 9000000000000000000)",
)


async def test_the_functions_of_the_owner_do_their_one_thing_only(guarded: str) -> None:
    recorder = await connect(guarded, "recorder")
    for call in MISUSED:
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await recorder.execute(call)
    await recorder.close()


async def test_a_reader_is_cut_off_after_its_time(guarded: str) -> None:
    reader = await connect(guarded, "reader")
    assert await reader.fetchval("SHOW statement_timeout") == "30s"
    assert await reader.fetchval("SHOW default_transaction_read_only") == "on"
    await reader.close()


async def test_wrong_passwords_and_strangers_are_refused(guarded: str) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url_of(guarded, "bot", "wrong-password-of-bot"))
    admin = await asyncpg.connect(guarded)
    await admin.execute(f"CREATE ROLE stranger_{os.getpid()} LOGIN PASSWORD 'stranger'")
    stranger = urlsplit(guarded)._replace(netloc=f"stranger_{os.getpid()}:stranger@{urlsplit(guarded).netloc.rpartition('@')[2]}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(stranger.geturl())
    await admin.execute(f"DROP ROLE stranger_{os.getpid()}")
    await admin.close()


async def test_roles_may_be_made_again_with_other_passwords_and_later_tables_are_covered(guarded: str) -> None:
    admin = await asyncpg.connect(guarded)
    changed = PASSWORDS | {"reader": "another-password-of-reader"}
    await make_roles(admin, changed)
    owner = await connect(guarded, "owner")
    await owner.execute("CREATE TABLE later (n int)")
    await asyncio.to_thread(migrate.upgrade, url_of(guarded, "owner"), MODE)

    reader = await asyncpg.connect(url_of(guarded, "reader", changed["reader"]), server_settings={"search_path": MODE})
    assert await reader.fetch("SELECT * FROM later") == []
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(guarded, "reader")
    await make_roles(admin, PASSWORDS)
    for connection in (admin, owner, reader):
        await connection.close()


async def test_tables_that_one_user_made_are_taken_over(database_url: str) -> None:
    await asyncio.to_thread(migrate.upgrade, database_url, MODE)
    admin = await asyncpg.connect(database_url)
    await make_roles(admin, PASSWORDS)
    assert await take_over(admin, MODE) > 20
    assert await take_over(admin, MODE) == 0
    await admin.close()
    await asyncio.to_thread(migrate.upgrade, url_of(database_url, "owner"), MODE)
    reader = link(database_url, "reader")
    assert await reader.run(lambda connection: queries.recent_fills(connection, 1)) == []
    await reader.close()


async def test_a_missing_or_short_password_makes_no_role(database_url: str) -> None:
    admin = await asyncpg.connect(database_url)
    with pytest.raises(RolesError, match="bot"):
        await make_roles(admin, PASSWORDS | {"bot": "short"})
    await admin.close()


def test_no_statement_holds_a_password() -> None:
    assert "a-secret-password" not in scram_verifier("a-secret-password")
    assert scram_verifier("a-secret-password") != scram_verifier("a-secret-password")
