"""`tradebot db url|migrate|roles|status`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from runtime.endpoints import postgres_url
from runtime.settings import Settings
from tradebot.commands.context import AsJson, print_json, say, settings_of
from tradebot.commands.history import ask
from tradebot.exit_codes import CommandError, ExitCode

app = typer.Typer(help="The history in PostgreSQL.", no_args_is_help=True)
T = TypeVar("T")
CONNECT_TIMEOUT_S = 10.0


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
def roles(
    context: typer.Context,
    passwords: Annotated[Path, typer.Option(help="Folder with a private file postgres_password_ROLE for each role.")],
    as_json: AsJson = False,
) -> None:
    """Make a role per service and set their passwords; may be repeated, also to change passwords.

    The configured address must be an administrator's. Tables that exist already are given to the role that owns them from now on;
    `tradebot db migrate` with that role's address then grants the others what they may do.
    """
    from postgres.roles import ROLES, RolesError
    from runtime.secrets import SecretError, read_secret_file

    try:
        found = {role.name: read_secret_file(passwords / (name := f"postgres_password_{role.name}"), name) for role in ROLES}
        names = _with_database(settings_of(context), lambda url, mode: asyncio.run(_make_roles(url, mode, found)))
    except (SecretError, RolesError) as error:
        raise CommandError(str(error), ExitCode.CONFIG) from None
    if as_json:
        print_json({"roles": names})
    else:
        say(f"roles: {', '.join(names)}; now `tradebot db migrate` as the first of them")


async def _make_roles(url: str, mode: str, passwords: dict[str, str]) -> list[str]:
    import asyncpg

    from postgres.roles import make_roles, take_over

    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    try:
        names = await make_roles(connection, passwords)
        await take_over(connection, mode)
    finally:
        await connection.close()
    return names


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
