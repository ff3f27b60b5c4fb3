"""Connections to one mode's schema: a pool for those who ask, one link for those who write, and retries for both."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import msgspec

from postgres.schema import check_version, schema_name
from runtime.settings import PostgresSettings

CONNECT_TIMEOUT_S = 5.0
CLIENT_GRACE_S = 5.0
"""How much longer than the server we wait before we take the server for dead."""
RETRIES = 4
RETRY_FIRST_S = 0.02

T = TypeVar("T")


async def open_pool(url: str, mode: str, settings: PostgresSettings) -> asyncpg.Pool:
    """Return a pool whose connections see the tables of `mode`; money comes as Decimal, jsonb as plain Python values.

    No connection is opened before it is asked for. Acquiring one raises SchemaError when the tables are not of this code's version,
    OSError, TimeoutError or asyncpg.PostgresError when the database does not answer or refuses.
    """
    schema = schema_name(mode)

    async def prepare(connection: asyncpg.Connection) -> None:
        await _prepare(connection, schema)

    return await asyncpg.create_pool(
        url,
        min_size=0,
        max_size=settings.pool_size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=settings.statement_timeout_s + CLIENT_GRACE_S,
        server_settings=_server_settings(schema, settings),
        init=prepare,
    )


class Link:
    """One connection, opened when it is needed and thrown away after a failure: the next use opens a new one.

    `find_url` is asked on each opening, since a bundled server may come back on another port.
    """

    def __init__(self, find_url: Callable[[], str], mode: str, settings: PostgresSettings) -> None:
        self._find_url = find_url
        self._schema = schema_name(mode)
        self._settings = settings
        self._connection: asyncpg.Connection | None = None
        self._opening = asyncio.Lock()

    async def connection(self) -> asyncpg.Connection:
        """The open connection; raises as acquiring from `open_pool` does, and runtime.endpoints.NotRunning."""
        async with self._opening:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._open()
            return self._connection

    async def run(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Do `work` on the connection; after any failure that leaves its state in doubt the connection is given up.

        A server that stopped answering is cut off from outside: cancelling would wait for its answer to the cancellation.
        """
        connection = await self.connection()
        limit_s = self._settings.statement_timeout_s + CLIENT_GRACE_S
        watchdog = asyncio.get_running_loop().call_later(limit_s, connection.terminate)
        try:
            return await work(connection)
        except BaseException:
            self.drop()
            raise
        finally:
            watchdog.cancel()

    def drop(self) -> None:
        """Close without a goodbye."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _open(self) -> asyncpg.Connection:
        connection = await asyncpg.connect(
            self._find_url(), timeout=CONNECT_TIMEOUT_S, server_settings=_server_settings(self._schema, self._settings)
        )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await _prepare(connection, self._schema)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def close(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            await self._connection.close(timeout=CONNECT_TIMEOUT_S)
        self._connection = None


async def retrying(operation: Callable[[], Awaitable[T]]) -> T:
    """Run a whole transaction again, a few times and with jitter, when it lost to a concurrent one (40001, 40P01)."""
    for attempt in range(RETRIES):
        try:
            return await operation()
        except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
            wait_s = RETRY_FIRST_S * 2**attempt
            await asyncio.sleep(wait_s / 2 + random.random() * wait_s)  # noqa: S311 jitter, not a secret
    return await operation()


def _server_settings(schema: str, settings: PostgresSettings) -> dict[str, str]:
    return {
        "search_path": schema,
        "application_name": f"tradebot {schema}",
        "statement_timeout": f"{int(settings.statement_timeout_s * 1000)}ms",
        "lock_timeout": f"{int(settings.statement_timeout_s * 500)}ms",
        "idle_in_transaction_session_timeout": f"{int(settings.statement_timeout_s * 2000)}ms",
        "jit": "off",  # our queries are short: compiling them takes longer than running them
    }


async def _prepare(connection: asyncpg.Connection, schema: str) -> None:
    """Check the version of the tables and teach the connection jsonb."""
    known = await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL")
    check_version(await connection.fetchval("SELECT version_num FROM alembic_version") if known else None, schema)
    await connection.set_type_codec("jsonb", schema="pg_catalog", format="binary", encoder=_to_jsonb, decoder=_from_jsonb)


def _to_jsonb(value: Any) -> bytes:
    return b"\x01" + msgspec.json.encode(value)  # the version byte of jsonb's binary form


def _from_jsonb(data: bytes) -> Any:
    return msgspec.json.decode(memoryview(data)[1:])
