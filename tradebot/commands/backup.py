"""`tradebot backup|restore`: all that is ours, into one file and back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from runtime.settings import Settings
from tradebot.commands.context import AsJson, print_json, say, settings_of
from tradebot.exit_codes import CommandError, ExitCode

T = TypeVar("T")

HomesFolder = Annotated[
    Path | None,
    typer.Option("--homes", help="A folder with one home directory per service (volumes of containers), instead of the one home."),
]


def register(app: typer.Typer) -> None:
    app.command()(backup)
    app.command()(restore)


def backup(
    context: typer.Context,
    target: Annotated[Path | None, typer.Argument(help="A folder, or a file ending in .tar.gz; else backups/ in the home.")] = None,
    keep: Annotated[int, typer.Option(min=0, help="Keep only so many of the newest backups in the folder; 0 keeps all.")] = 0,
    homes: HomesFolder = None,
    as_json: AsJson = False,
) -> None:
    """Save the state of a running stack: history, streams, journal, positions, alerts. It goes on trading meanwhile.

    Passwords, keys, market data on the bus and logs are not in it.
    """
    from tradebot.backup import make_backup

    settings = settings_of(context)
    root = Path.cwd()
    work = make_backup(settings, _homes(settings, homes), target or settings.home / "backups", root, keep)
    path, manifest = _run(work)
    size = path.stat().st_size
    if as_json:
        print_json({"file": str(path), "bytes": size, "manifest": manifest})
    else:
        say(f"{path} ({size / 1e6:.1f} MB, {len(manifest.files)} files); try it: `tradebot --home DIR restore {path}`")


def restore(
    context: typer.Context,
    archive: Annotated[Path, typer.Argument(help="A file that `tradebot backup` made.")],
    force: Annotated[bool, typer.Option("--force", help="Put aside what is there already.")] = False,
    homes: HomesFolder = None,
    as_json: AsJson = False,
) -> None:
    """Bring a backup back, with nothing running; the exchange is asked what happened since when the connector starts.

    Give the same --homes as for the backup.
    """
    from tradebot.restore import restore as bring_back

    settings = settings_of(context)
    if not archive.is_file():
        raise CommandError(f"{archive}: no such file", ExitCode.NOT_FOUND)
    manifest = _run(bring_back(settings, archive, _homes(settings, homes), force=force))
    if as_json:
        print_json({"restored": True, "manifest": manifest})
    else:
        say(
            f"restored {archive.name}; `tradebot up` compares with the exchange first, then trades; `tradebot halt` before, to look"
        )


def _homes(settings: Settings, folder: Path | None) -> dict[str, Path]:
    from tradebot.backup_archive import BackupError
    from tradebot.backup_home import ONLY, homes_in

    if folder is None:
        return {ONLY: settings.home}
    try:
        return homes_in(folder)
    except (BackupError, OSError) as error:
        raise CommandError(f"--homes {folder}: {error}", ExitCode.NOT_FOUND) from None


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run the work; what is expected to go wrong becomes one line."""
    import asyncpg

    from bus.errors import BusError, BusUnavailable
    from postgres.schema import SchemaError
    from tradebot.backup_archive import BackupError
    from tradebot.managed_process import StartFailed

    try:
        return asyncio.run(work)
    except BusUnavailable as error:
        raise CommandError(f"the bus does not answer: {error}", ExitCode.NOT_RUNNING) from None
    except StartFailed as error:
        raise CommandError(str(error), error.code) from None
    except (BackupError, BusError, SchemaError, OSError, asyncpg.PostgresError) as error:
        raise CommandError(f"{error or type(error).__name__}") from None
