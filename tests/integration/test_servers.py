"""The bundled servers, really started."""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis

from runtime.settings import BusSettings, PostgresSettings, Settings
from tests.support.servers import ServerProcess
from tradebot.bundled_server import ServerError
from tradebot.bundled_servers import bundled_servers
from tradebot.server_postgres import BundledPostgres
from tradebot.server_valkey import BundledValkey


def connect(url: str) -> Redis:
    return Redis.from_url(url, protocol=2, decode_responses=True)


async def test_valkey_logs_every_write_and_never_evicts(valkey_url: str) -> None:
    redis = connect(valkey_url)
    config = await redis.config_get("*")
    await redis.aclose()

    assert config["appendonly"] == "yes"
    assert config["appendfsync"] == "everysec"
    assert config["maxmemory-policy"] == "noeviction"
    assert config["maxmemory"] == str(BusSettings().maxmemory_mb * 1024 * 1024)
    assert config["bind"] == "127.0.0.1"


async def test_valkey_keeps_what_it_acknowledged_over_a_kill(own_valkey: Callable[..., ServerProcess]) -> None:
    server = own_valkey(fsync="always")
    redis = connect(server.url)
    await redis.set("kept", "1")
    await redis.aclose()

    server.restart()

    redis = connect(server.url)
    assert await redis.get("kept") == "1"
    await redis.aclose()


async def test_postgres_keeps_what_it_committed_over_a_kill(own_postgres: Callable[..., ServerProcess]) -> None:
    server = own_postgres()
    connection = await asyncpg.connect(server.url)
    await connection.execute("CREATE TABLE kept (number int)")
    await connection.execute("INSERT INTO kept VALUES (7)")
    await connection.close()

    server.restart()

    connection = await asyncpg.connect(server.url)
    assert await connection.fetchval("SELECT number FROM kept") == 7
    await connection.close()


async def test_postgres_asks_for_the_password_and_is_durable_by_default(own_postgres: Callable[..., ServerProcess]) -> None:
    server = own_postgres(durable=True)
    wrong = urlsplit(server.url)._replace(netloc=f"tradebot:wrong@127.0.0.1:{server.server.port}").geturl()

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong)
    connection = await asyncpg.connect(server.url)
    for option in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await connection.fetchval(f"SHOW {option}") == "on"
    await connection.close()


def test_secrets_are_private_and_never_on_a_command_line(own_valkey: Callable[..., ServerProcess]) -> None:
    server = own_valkey()
    password = (server.server.directory / "password").read_text().strip()

    for name in ("password", "valkey.conf"):
        assert stat.S_IMODE((server.server.directory / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((server.server.home / "run" / "bus.url").stat().st_mode) == 0o600
    assert password not in " ".join(psutil.Process(server.pid).cmdline())
    assert (server.server.home / "run" / "bus.url").read_text().strip() == server.url
    assert (server.server.home / "run" / "valkey.port").read_text().strip() == str(server.server.port)


def test_a_server_is_not_ready_before_it_runs_nor_after_a_kill(own_postgres: Callable[..., ServerProcess]) -> None:
    server = own_postgres()
    pid = server.pid
    assert server.server.ready(pid)

    server.kill()  # leaves its status file behind

    server.server.prepare()
    assert not server.server.ready(pid + 1)


def test_a_pid_file_whose_number_is_another_programs_does_not_stop_postgres(own_postgres: Callable[..., ServerProcess]) -> None:
    server = own_postgres()
    server.kill()
    file = server.server.directory / "data" / "postmaster.pid"
    lines = file.read_text().splitlines()
    stranger = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
    try:
        file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")

        server.start()
    finally:
        stranger.kill()
        stranger.wait()


def test_a_half_made_data_directory_is_made_again(tmp_path: Path) -> None:
    draft = tmp_path / "postgres" / "data.new"
    draft.mkdir(parents=True)
    (draft / "leftover").write_text("from a killed initdb")
    server = BundledPostgres(tmp_path, 0, options={"fsync": "off"})

    server.prepare()

    assert (tmp_path / "postgres" / "data" / "PG_VERSION").exists()
    assert not draft.exists()


def test_a_data_directory_of_an_unknown_version_is_refused_with_advice(tmp_path: Path) -> None:
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")

    with pytest.raises(ServerError, match=r"was made by PostgreSQL 9.*TRADEBOT__POSTGRES__URL"):
        BundledPostgres(tmp_path, 0).prepare()


def test_a_taken_port_moves_on_and_stays(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        server = BundledValkey(tmp_path, BusSettings(port=wanted))
        assert server.port > wanted
        first = server.port
    assert server.port == first  # clients know it by now


def test_only_servers_without_a_configured_url_are_bundled(tmp_path: Path) -> None:
    def names(**sections: object) -> list[str]:
        return [server.name for server in bundled_servers(Settings.model_validate({"home": tmp_path, **sections}))]

    assert names() == ["valkey", "postgres"]
    assert names(bus=BusSettings(url="redis://elsewhere")) == ["postgres"]
    assert names(bus=BusSettings(url="redis://elsewhere"), postgres=PostgresSettings(url="postgresql://elsewhere")) == []
