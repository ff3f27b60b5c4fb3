"""Bring a mode's schema to a version, up or down: one transaction, one migrator at a time, never older code on newer tables.

Loads SQLAlchemy and Alembic (some 40 MB), so only the command line and the supervisor import this; long-running processes
compare versions by `postgres.schema` alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from postgres.roles import grants
from postgres.routines import routines, without_routines
from postgres.schema import SchemaError, schema_name

CONNECT_TIMEOUT_S = 10.0
LOCK_TIMEOUT = "60s"
"""How long to wait for another migrator, or for readers of a table that changes."""

T = TypeVar("T")


def upgrade(url: str, mode: str, revision: str = "head") -> str:
    """Create or bring up the tables of `mode`; returns the version reached.

    Blocks, and runs an event loop of its own: from async code call it by `asyncio.to_thread`. Raises SchemaError when the tables
    are newer than this code, OSError or asyncpg.PostgresError when the database cannot be reached or refuses.
    """
    return _run(url, mode, lambda connection, config: _upgrade(connection, config, revision)) or ""


def downgrade(url: str, mode: str, revision: str) -> str | None:
    """Take the tables of `mode` back to `revision` (`base` drops them all, with their rows); returns the version reached."""
    return _run(url, mode, lambda connection, config: _downgrade(connection, config, revision))


def current(url: str, mode: str) -> str | None:
    """The version of the tables of `mode`, None where there are none. Changes nothing."""
    return _run(url, mode, _current)


def head() -> str:
    """The newest version that this code knows."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def known_revisions() -> frozenset[str]:
    """Every version of the tables that this code knows."""
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _upgrade(connection: Connection, config: Config, revision: str) -> str | None:
    _begin_migrating(connection, config)
    connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{config.attributes["schema"]}"'))
    _refuse_unknown_version(connection, config)
    command.upgrade(config, revision)
    if _current(connection, config) == head():
        _write_rules(connection, config.attributes["schema"])
    return _current(connection, config)


def _write_rules(connection: Connection, schema: str) -> None:
    """The functions of this version, and what each role that the server has may do with the tables of this version."""
    roles = connection.execute(text("SELECT rolname FROM pg_roles WHERE NOT rolsuper")).scalars()
    tables = connection.execute(
        text("SELECT relname FROM pg_class WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind IN ('r', 'p', 'v')"),
        {"schema": f'"{schema}"'},
    ).scalars()
    for statement in (*routines(schema), *grants(schema, frozenset(roles), frozenset(tables))):
        connection.exec_driver_sql(statement)


def _downgrade(connection: Connection, config: Config, revision: str) -> str | None:
    _begin_migrating(connection, config)
    _refuse_unknown_version(connection, config)
    if _current(connection, config) is None:
        return None
    for statement in without_routines():
        connection.exec_driver_sql(statement)
    command.downgrade(config, revision)
    return _current(connection, config)


def _current(connection: Connection, config: Config) -> str | None:
    schema = config.attributes["schema"]
    return MigrationContext.configure(connection, opts={"version_table_schema": schema}).get_current_revision()


def _begin_migrating(connection: Connection, config: Config) -> None:
    """Wait for other migrators of this schema; the lock goes with the transaction, also when we are killed."""
    schema = config.attributes["schema"]
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended('tradebot.migrate:' || :schema, 0))"), {"schema": schema}
    )


def _refuse_unknown_version(connection: Connection, config: Config) -> None:
    found = _current(connection, config)
    if found is not None and found not in known_revisions():
        raise SchemaError(
            f"schema {config.attributes['schema']!r} is at version {found}, which this code (up to {head()}) does not know: "
            "it was written by a newer tradebot; update this one, or use another database"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _run(url: str, mode: str, work: Callable[[Connection, Config], T]) -> T:
    return asyncio.run(_run_async(url, schema_name(mode), work))


async def _run_async(url: str, schema: str, work: Callable[[Connection, Config], T]) -> T:
    """Run `work` in one transaction with `schema` as the search path; everything of it happens, or nothing."""

    async def connect() -> asyncpg.Connection:
        settings = {"search_path": schema, "application_name": "tradebot migrate"}
        return await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S, server_settings=settings)

    def inside(connection: Connection) -> T:
        config = _config()
        config.attributes.update(connection=connection, schema=schema)
        return work(connection, config)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(inside)
    finally:
        await engine.dispose()
