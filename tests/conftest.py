"""What every test may ask for: real servers, a mode of its own, recorded exchange data."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support import servers
from tests.support.servers import ServerProcess

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "data"

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one real Valkey for the whole run: keep apart by `mode`."""
    server = servers.valkey(tmp_path_factory.mktemp("valkey"))
    try:
        server.start()
        yield server.url
    finally:
        server.kill()


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one real PostgreSQL for the whole run, fsync off: keep apart by `database_url`."""
    server = servers.postgres(tmp_path_factory.mktemp("postgres"))
    try:
        server.start()
        yield server.url
    finally:
        server.kill()


@pytest.fixture
async def database_url(postgres_url: str) -> AsyncIterator[str]:
    """The URL of an empty database that is this test's own."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
        yield urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()


@pytest.fixture
def mode() -> str:
    """A first part of stream names that no other test uses."""
    return f"test{os.getpid()}x{next(_numbers)}"


@pytest.fixture
def own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], ServerProcess]]:
    """Makes running Valkeys that a test may kill, freeze and start again."""
    started: list[ServerProcess] = []

    def make(fsync: str = "everysec") -> ServerProcess:
        server = servers.valkey(tmp_path_factory.mktemp("own-valkey"), fsync)
        started.append(server)
        server.start()
        return server

    yield make
    for server in started:
        server.kill()


@pytest.fixture
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], ServerProcess]]:
    """Makes running PostgreSQL servers that a test may kill, freeze and start again."""
    started: list[ServerProcess] = []

    def make(durable: bool = False) -> ServerProcess:
        server = servers.postgres(tmp_path_factory.mktemp("own-postgres"), durable)
        started.append(server)
        server.start()
        return server

    yield make
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def recorded_dir() -> Path:
    """The folder of recorded exchange data; tests that ask for it are marked `recorded`."""
    if not (RECORDED / "MANIFEST.md").exists():
        pytest.skip(f"needs the recorded exchange data, which is not part of a clone: put it in {RECORDED}")
    return RECORDED
