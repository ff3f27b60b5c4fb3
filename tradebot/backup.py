"""`tradebot backup`: everything that is ours and that nobody else could tell us again, from a running stack, into one file.

The order of the steps is what makes the parts fit: first what flows into the database (streams, spool), then the database, then
what it is made from, the journal last. So no part knows of an effect whose cause is missing, except for what the venue did after
the journal was copied; that, the connector asks the venue for before it trades (docs/adr/0014-what-a-backup-is.md).

Not in it: market data on the bus, logs, captures, the simulator's ledger (it plays the venue), and every password.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as Late

from bus.client import open_redis
from bus.errors import BusError, BusUnavailable
from bus.streams import Streams
from common_models import Alert, AlertLevel
from runtime.clock import now_ns
from runtime.endpoints import bus_url, postgres_url
from runtime.settings import Settings
from runtime.settings_loader import FILES
from tradebot import backup_bus, backup_database
from tradebot.backup_archive import BackupError, Manifest, Step, drop_older, pack
from tradebot.backup_home import Homes, after_database, before_database, copy_parts
from tradebot.control_messages import one_publisher

STREAMS_FOLDER, HOMES_FOLDER, CONFIG_FOLDER, DATABASE_FILE = "streams", "homes", "config", "database.dump"


async def make_backup(settings: Settings, homes: Homes, target: Path, root: Path, keep: int = 0) -> tuple[Path, Manifest]:
    """Write a backup and return its path and manifest.

    `target` is a file, or a folder in which the file gets a name with the time, and in which only the newest `keep` stay (0: all).
    `root` is where config/ lies. Raises BackupError, NotRunning, BusError, OSError or asyncpg.PostgresError; no file is left then.
    """
    created_ns = now_ns()
    folder, path = _placed(target, settings.mode.value, created_ns)
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=folder) as scratch:
        manifest = await _collect(settings, homes, Path(scratch), root, created_ns)
        manifest = await asyncio.to_thread(pack, Path(scratch), manifest, path)
    if keep:
        drop_older(folder, settings.mode.value, keep)
    await _tell(settings, path, manifest)
    return path, manifest


def _placed(target: Path, mode: str, created_ns: int) -> tuple[Path, Path]:
    """The folder and the file to write."""
    if target.suffix in (".gz", ".tgz"):
        folder, name = target.parent, target.name
    else:
        folder, name = target, f"tradebot-{mode}-{datetime.fromtimestamp(created_ns // 10**9, UTC):%Y%m%dT%H%M%SZ}.tar.gz"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / name).exists():
        raise BackupError(f"{folder / name} is there already")
    return folder, folder / name


async def _collect(settings: Settings, homes: Homes, folder: Path, root: Path, created_ns: int) -> Manifest:
    from postgres.migrate import current

    mode, database = settings.mode.value, postgres_url(settings)
    steps: list[Step] = []
    streams, home = folder / STREAMS_FOLDER, folder / HOMES_FOLDER
    streams.mkdir()
    with _step(steps, "streams"):
        bus = await _dump_streams(settings, streams)
    with _step(steps, "spool"):
        await asyncio.to_thread(copy_parts, homes, before_database(mode), home)
    with _step(steps, "database"):
        schema = await asyncio.to_thread(current, database, mode)
        if schema is None:
            raise BackupError(f"the database has no tables of mode {mode}: nothing has run yet")
        server = await backup_database.server_version(database)
        await asyncio.to_thread(backup_database.dump, database, mode, server, folder / DATABASE_FILE)
    with _step(steps, "homes"):
        await asyncio.to_thread(copy_parts, homes, after_database(mode), home)
    _copy_configuration(root, folder / CONFIG_FOLDER)
    return Manifest(
        mode=mode,
        created_ns=created_ns,
        tradebot=version("tradebot"),
        schema=schema,
        postgres=server,
        bus=bus,
        homes=tuple(homes),
        steps=tuple(steps),
        files=(),
    )


async def _dump_streams(settings: Settings, target: Path) -> str:
    """Dump the lossless streams and return the server's version; raises BusUnavailable or BusError."""
    redis = open_redis(bus_url(settings), backup_bus.TIMEOUT_S)
    try:
        await backup_bus.dump(redis, backup_bus.streams_of(settings), target)
        return await backup_bus.server_version(redis)
    except (Unreachable, Late) as error:
        raise BusUnavailable(str(error)) from None
    except RedisError as error:
        raise BusError(str(error)) from None
    finally:
        await redis.aclose()


def _copy_configuration(root: Path, target: Path) -> None:
    """The configuration as it was, to look up; .env and secrets are not in it, and a restore leaves the present one alone."""
    target.mkdir()
    for path in (root / name for name in FILES):
        if path.exists():
            shutil.copyfile(path, target / path.name)


async def _tell(settings: Settings, path: Path, manifest: Manifest) -> None:
    """Leave word on the bus, so that people and dashboards see when the last backup was; without a bus the file still counts."""
    text = f"{path.name} holds {len(manifest.files)} files"
    size = {"bytes": str(sum(member.bytes for member in manifest.files))}
    alert = Alert(level=AlertLevel.INFO, source="backup", code="BACKUP_DONE", text=text, ts_event_ns=now_ns(), numbers=size)
    with contextlib.suppress(BusError):
        async with one_publisher(settings) as publisher:
            publisher.put(Streams(settings.mode.value).alerts, alert)


@contextlib.contextmanager
def _step(steps: list[Step], name: str) -> Iterator[None]:
    started_ns = now_ns()
    yield
    steps.append(Step(name, started_ns, now_ns()))
