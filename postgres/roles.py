"""Who may do what in the database: one role per service, none of them a superuser (docs/adr/0013-roles-of-the-database.md).

`make_roles` is run by an administrator and may be repeated: it makes the roles and sets their passwords. What they may do in a
schema is granted by `grants` at the end of every migration, so that a new table is covered when it appears. A database without
these roles, such as the bundled one with its single user, needs no grants.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import asyncpg

from postgres.routines import SIGNATURES
from postgres.schema import schema_name
from postgres.tables import TABLES

PREFIX = "tradebot_"
MIN_PASSWORD = 16
SCRAM_ROUNDS = 4096
SALT_BYTES = 16
OWNER = "owner"

HISTORY = tuple(dict.fromkeys(name for table in TABLES.values() for name in table.names))
REPLACED = tuple(dict.fromkeys(table.latest.table for table in TABLES.values() if table.latest))
"""Tables whose rows are replaced by newer ones; all others only grow."""
WARM_UP = ("ohlcv", "trades", "tickers", "order_books", "day_stats", "funding_rates", "instruments")
ALERTS = ("alert_states", "alert_deliveries", "alert_actions")
VERSION = "alembic_version"


@dataclass(frozen=True, slots=True)
class Role:
    """What one service may do in a mode's schema. `reads_all` is SELECT on every table, `settings` are the role's own defaults."""

    name: str
    connections: int
    reads: tuple[str, ...] = ()
    reads_all: bool = False
    adds: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    on_database: tuple[str, ...] = ("CONNECT",)
    member_of: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def login(self) -> str:
        """The name that the service gives to the server."""
        return f"{PREFIX}{self.name}"


READ_ONLY = {"default_transaction_read_only": "on", "statement_timeout": "30s", "idle_in_transaction_session_timeout": "60s"}

ROLES = (
    Role(OWNER, 5, on_database=("CONNECT", "CREATE", "TEMPORARY")),  # migrates, dumps and restores
    Role(
        "recorder",
        10,
        reads_all=True,  # INSERT ... ON CONFLICT looks at what is there
        adds=HISTORY,
        replaces=REPLACED,
        runs=SIGNATURES,
        on_database=("CONNECT", "TEMPORARY"),  # batches with copies go through a temporary table
    ),
    Role("bot", 5, reads=(*WARM_UP, VERSION), settings=READ_ONLY),
    Role("alerts", 5, reads_all=True, adds=ALERTS[:2], replaces=ALERTS[:1], removes=ALERTS[1:]),
    Role("operator", 5, reads_all=True, adds=ALERTS[2:], replaces=ALERTS[:1]),  # the command line: it acknowledges
    Role("reader", 10, reads_all=True, settings=READ_ONLY),  # Grafana, people
    Role("exporter", 3, member_of=("pg_monitor",), settings=READ_ONLY),
)


class RolesError(Exception):
    """The roles cannot be made; the text says why."""


async def make_roles(connection: asyncpg.Connection, passwords: Mapping[str, str]) -> list[str]:
    """Make the roles that are missing and set every password, in one transaction; returns the names to log in with.

    `passwords` has one for each of ROLES by its short name. The connection is an administrator's. Raises RolesError for passwords
    that are missing or short, asyncpg.PostgresError when the server refuses.
    """
    weak = [role.name for role in ROLES if len(passwords.get(role.name, "")) < MIN_PASSWORD]
    if weak:
        raise RolesError(f"each role needs a password of {MIN_PASSWORD} characters at least; missing or short: {', '.join(weak)}")
    async with connection.transaction():
        database = await connection.fetchval("SELECT quote_ident(current_database())")
        known = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
        for statement in (f"REVOKE ALL ON DATABASE {database} FROM PUBLIC", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"):
            await connection.execute(statement)
        for role in ROLES:
            for statement in _role_statements(role, database, passwords[role.name], exists=role.login in known):
                await connection.execute(statement)
    return [role.login for role in ROLES]


async def take_over(connection: asyncpg.Connection, mode: str) -> int:
    """Give a schema that another user made, with all that is in it, to the owner; returns how many objects changed hands."""
    schema, owner = schema_name(mode), f"{PREFIX}{OWNER}"
    moves = await connection.fetch(
        "SELECT format('ALTER TABLE %I.%I OWNER TO %I', n.nspname, c.relname, $2::text) AS statement "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v') AND c.relowner <> $2::regrole "
        "UNION ALL SELECT format('ALTER FUNCTION %s OWNER TO %I', p.oid::regprocedure, $2::text) "
        "FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1 AND p.proowner <> $2::regrole "
        "UNION ALL SELECT format('ALTER SCHEMA %I OWNER TO %I', nspname, $2::text) "
        "FROM pg_namespace WHERE nspname = $1 AND nspowner <> $2::regrole",
        schema,
        owner,
    )
    async with connection.transaction():
        for row in moves:
            await connection.execute(row["statement"])
    return len(moves)


def grants(schema: str, roles: frozenset[str], tables: frozenset[str]) -> Iterator[str]:
    """The statements that give each role of `roles` (names to log in with) its rights in a schema with these `tables`, no others.

    Run by the owner, with the schema as search path.
    """
    for role in ROLES:
        if role.name == OWNER or role.login not in roles or role.member_of:
            continue
        yield f'REVOKE ALL ON ALL TABLES IN SCHEMA "{schema}" FROM {role.login}'
        yield f'REVOKE ALL ON ALL FUNCTIONS IN SCHEMA "{schema}" FROM {role.login}'
        yield f'REVOKE ALL ON SCHEMA "{schema}" FROM {role.login}'
        yield f'GRANT USAGE ON SCHEMA "{schema}" TO {role.login}'
        if role.reads_all:
            yield f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO {role.login}'
        rights = {"SELECT": role.reads, "INSERT": role.adds, "UPDATE": role.replaces, "DELETE": role.removes}
        for right, names in rights.items():
            if found := [name for name in names if name in tables]:
                yield f"GRANT {right} ON {', '.join(found)} TO {role.login}"
        for signature in role.runs:
            yield f"GRANT EXECUTE ON FUNCTION {signature} TO {role.login}"


def _role_statements(role: Role, database: str, password: str, *, exists: bool) -> Iterator[str]:
    if not exists:
        yield f"CREATE ROLE {role.login}"
    yield (
        f"ALTER ROLE {role.login} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT "
        f"CONNECTION LIMIT {role.connections} PASSWORD '{scram_verifier(password)}'"
    )
    yield f"REVOKE ALL ON DATABASE {database} FROM {role.login}"
    yield f"GRANT {', '.join(role.on_database)} ON DATABASE {database} TO {role.login}"
    yield f"ALTER ROLE {role.login} RESET ALL"
    for name, value in role.settings.items():
        yield f"ALTER ROLE {role.login} SET {name} = '{value}'"
    for group in role.member_of:
        yield f"GRANT {group} TO {role.login}"


def scram_verifier(password: str) -> str:
    """What the server keeps of a password (RFC 5803): with it, the password itself is in no statement and no log."""
    salt = secrets.token_bytes(SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ROUNDS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    served = hmac.digest(salted, b"Server Key", "sha256")
    head, *keys = (base64.b64encode(part).decode() for part in (salt, stored, served))
    return f"SCRAM-SHA-256${SCRAM_ROUNDS}:{head}${':'.join(keys)}"
