"""`tradebot db url|migrate|status`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import typer

from runtime.endpoints import postgres_url
from runtime.settings import Settings
from tradebot.commands.context import AsJson, print_json, say, settings_of
from tradebot.commands.history import ask
from tradebot.exit_codes import CommandError, ExitCode

app = typer.Typer(help="The history in PostgreSQL.", no_args_is_help=True)
T = TypeVar("T")


@app.command()
def url(context: typer.Context, as_json: AsJson = False) -> None:
    """Print the address, password included: psql "$(tradebot db url)"."""
    settings = settings_of(context)
    address = postgres_url(settings)
    mark = "&" if "?" in address else "?"
    address += f"{mark}options=-csearch_path%3D{settings.mode.value}"  # so that psql finds this mode's tables
    if as_json:
        print_json({"url": address, "schema": settings.mode.value})
    else:
        say(address)


@app.command()
def migrate(context: typer.Context, as_json: AsJson = False) -> None:
    """Create the tables of this mode, or bring them up to date."""
    from postgres.migrate import upgrade

    settings = settings_of(context)
    version = _with_database(settings, upgrade)
    if as_json:
        print_json({"schema": settings.mode.value, "version": version})
    else:
        say(f"schema {settings.mode.value} is at version {version}")


@app.command()
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Print the version of the tables and how many rows each has.

    Exit code 1 when a migration is due.
    """
    from postgres import queries
    from postgres.migrate import current, head

    settings = settings_of(context)
    found, wanted = _with_database(settings, current), head()
    rows = ask(settings, queries.table_counts) if found == wanted else {}
    if as_json:
        print_json({"schema": settings.mode.value, "version": found, "newest": wanted, "rows": rows})
    else:
        say(f"schema {settings.mode.value}: version {found or 'none'}, newest {wanted}")
        for table, count in rows.items():
            say(f"{table:<20} {count:>12,}")
    if found != wanted:
        raise CommandError(f"the tables are not at version {wanted}: run `tradebot db migrate`")


def _with_database(settings: Settings, work: Callable[[str, str], T]) -> T:
    """Call work(url, mode); raises CommandError when the database cannot be reached or refuses."""
    import asyncpg

    from postgres.schema import SchemaError

    try:
        return work(postgres_url(settings), settings.mode.value)
    except (OSError, asyncpg.CannotConnectNowError) as error:
        raise CommandError(f"the database does not answer: {error or type(error).__name__}", ExitCode.NOT_RUNNING) from None
    except (SchemaError, asyncpg.PostgresError) as error:
        raise CommandError(f"the database refuses: {error}") from None
