"""`tradebot restore`: a backup back into an empty home, database and bus. Nothing may run on them meanwhile.

The emergency stop is pressed before anything is written and gets the backup's state with the last file, so that a restore that was
interrupted half-way can be started without risk. What was there goes aside (`--force`), never away, but for the bus: its messages
are told again by those who know them.

Afterwards the venue has the last word: its connector asks it for open orders and for all fills since the backup before it takes a
command, and adopts the orders that carry our ids. Nothing is sent again: the journal knows the commands of the backup, or they have
expired.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from bus.client import open_redis
from bus.errors import BusUnavailable
from runtime import emergency_stop
from runtime.clock import now_ns
from runtime.endpoints import bus_url, postgres_url
from runtime.settings import Settings
from tradebot import backup_bus, backup_database
from tradebot.backup import DATABASE_FILE, HOMES_FOLDER, STREAMS_FOLDER
from tradebot.backup_archive import BackupError, Manifest, unpack
from tradebot.backup_home import Homes, move_aside, occupied, places, put_back, running
from tradebot.control_messages import actor
from tradebot.managed_process import StartFailed
from tradebot.orphans import SUPERVISOR
from tradebot.process_lock import ProcessLock
from tradebot.process_plan import plan
from tradebot.story import Story
from tradebot.supervisor import Supervisor

STOP_FILE = "stop/state.json"


async def restore(settings: Settings, archive: Path, homes: Homes, *, force: bool = False) -> Manifest:
    """Bring a backup back and return its manifest.

    Raises BackupError when it does not fit or something is in the way, StartFailed when a bundled server does not start,
    BusUnavailable, OSError or asyncpg.PostgresError when a server does not answer.
    """
    if alive := running(homes):
        raise BackupError(f"still running on this home: {', '.join(alive)}; stop everything first (`tradebot down`)")
    mode = settings.mode.value
    if (found := occupied(homes, mode)) and not force:
        raise BackupError(f"there is something of mode {mode} already, such as {found[0]}: --force puts it aside")
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=_made(next(iter(homes.values())))) as scratch:
        folder = Path(scratch)
        manifest = await asyncio.to_thread(unpack, archive, folder)
        _check(manifest, mode, homes)
        moves = places(folder / HOMES_FOLDER, homes, mode)
        streams = backup_bus.dumps_in(folder / STREAMS_FOLDER, backup_bus.streams_of(settings))
        aside = f"before_restore_{datetime.fromtimestamp(now_ns() // 10**9, UTC):%Y%m%dt%H%M%S}"
        async with _servers(settings):
            await _clear_servers(settings, f"{mode}_{aside}", force=force)
            move_aside(homes, mode, aside)
            for home in _homes_with_a_stop(homes, moves.values()):
                emergency_stop.press(home, f"the restore of {archive.name} was not finished: run it again with --force", actor())
            await _load_servers(settings, manifest, folder / DATABASE_FILE, streams)
        put_back(moves, last=Path(STOP_FILE).name)
    return manifest


def _made(home: Path) -> Path:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


def _check(manifest: Manifest, mode: str, homes: Homes) -> None:
    """Whether this code and this configuration are the right ones for a backup."""
    from postgres.migrate import known_revisions

    ours = version("tradebot")
    if manifest.mode != mode:
        raise BackupError(f"a backup of mode {manifest.mode}, and the configured mode is {mode}: use --mode {manifest.mode}")
    if manifest.schema not in known_revisions() or _numbers(manifest.tradebot) > _numbers(ours):
        raise BackupError(
            f"made by tradebot {manifest.tradebot} (tables {manifest.schema}), newer than this one ({ours}): update it"
        )
    if missing := sorted(set(manifest.homes) - homes.keys()):
        raise BackupError(f"the backup has the homes {', '.join(manifest.homes)}, and there is none here for {', '.join(missing)}")


def _numbers(text: str) -> tuple[int, ...]:
    """`0.10.2` in a form that compares."""
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def _homes_with_a_stop(homes: Homes, targets: Collection[Path]) -> list[Path]:
    return [home for home in homes.values() if home / STOP_FILE in targets]


@contextlib.asynccontextmanager
async def _servers(settings: Settings) -> AsyncIterator[None]:
    """The bundled servers, run for as long as this lasts; others are there already. Holds the home against `tradebot up`."""
    specs = [spec for spec in plan(settings) if spec.essential]
    if not specs:
        lock = ProcessLock(settings.run_dir, SUPERVISOR).claim()
        if lock is None:
            raise BackupError(f"`tradebot up` has just begun to use {settings.home}: stop it first")
        try:
            yield
        finally:
            os.close(lock)
        return
    supervisor = Supervisor(settings, specs, Story())
    task = asyncio.create_task(supervisor.run(), name="servers")
    ready = asyncio.create_task(_all_ready(supervisor), name="servers-ready")
    try:
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
            raise StartFailed("stopped before the servers were ready")
        yield
    finally:
        ready.cancel()
        supervisor.stop.set()
        await asyncio.wait([task])
    await task


async def _all_ready(supervisor: Supervisor) -> None:
    for process in supervisor.processes:
        await process.was_ready.wait()


async def _clear_servers(settings: Settings, aside: str, *, force: bool) -> None:
    """Make room in both, or refuse before either is touched."""
    streams, mode, database = backup_bus.streams_of(settings), settings.mode.value, postgres_url(settings)
    backup_database.tool("pg_restore", await backup_database.server_version(database))
    async with _redis(settings) as redis:
        if not force:
            await backup_bus.clear(redis, streams, mode, force=False)
        await backup_database.clear(database, mode, aside if force else None)
        await backup_bus.clear(redis, streams, mode, force=force)


async def _load_servers(settings: Settings, manifest: Manifest, dumped: Path, streams: Mapping[str, backup_bus.StreamCopy]) -> None:
    from postgres.migrate import upgrade

    database = postgres_url(settings)
    server = await backup_database.server_version(database)
    await asyncio.to_thread(backup_database.load, database, max(server, manifest.postgres, key=_numbers), dumped)
    await asyncio.to_thread(upgrade, database, settings.mode.value)
    async with _redis(settings) as redis:
        await backup_bus.load(redis, streams)


@contextlib.asynccontextmanager
async def _redis(settings: Settings) -> AsyncIterator[Redis]:
    """The bus for a few commands; its errors become BusUnavailable."""
    redis = open_redis(bus_url(settings), backup_bus.TIMEOUT_S)
    try:
        yield redis
    except RedisError as error:
        raise BusUnavailable(str(error)) from None
    finally:
        await redis.aclose()
