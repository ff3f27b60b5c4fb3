"""What `docker compose` needs and no repository may hold: `.env`, the files in `secrets/`, and a folder for backups.

Passwords are made at random once and kept. What is derived from them (addresses, the ACL of the bus) is written anew whenever it
differs, so that an upgrade with other rules, or a password that was deleted to be changed, reaches every file that depends on it.

Compose mounts a secret with its owner and mode on the host, and containers run as `TRADEBOT_UID`. So the files are 0600 and belong
to that user: the one who runs `make env`, or a user without a name and without rights when that is root.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dotenv import dotenv_values

from bus.access import EXPORTER, acl_file, user_names
from postgres.roles import ROLES
from runtime.endpoints import write_private
from runtime.settings import Settings
from tradebot.private_files import private_directory, secret

SECRETS, BACKUPS, DOTENV, EXAMPLE = "secrets", "backups", ".env", ".env.example"
BUS, DATABASE, DATABASE_NAME, ADMINISTRATOR = "redis:6379", "postgres:5432", "tradebot", "postgres"
CONTAINER_UID = 10001
"""Who the containers run as when root prepares them: nobody on any usual host."""

OTHER_PASSWORDS = ("grafana_admin_password", "elastic_password", "kibana_password", "logstash_password")
YOURS = ("telegram_bot_token", "alerts_webhook_url", "alerts_discord_url", "alerts_slack_url")
"""Made empty, which means off; only their owner can fill them in."""


class DeploymentError(Exception):
    """The files cannot be made so that containers can use them; the text says what to do."""


class Outcome(StrEnum):
    MADE = "made"
    KEPT = "kept"
    RENEWED = "renewed"


@dataclass(frozen=True, slots=True)
class Prepared:
    """One file and what became of it; `path` is relative to the checkout."""

    path: str
    outcome: Outcome


def prepare(root: Path, settings: Settings) -> list[Prepared]:
    """Make what is missing in the checkout `root`; what is there stays. Raises DeploymentError."""
    uid, gid = _container_user(root)
    folder = private_directory(root / SECRETS)
    done = [_dotenv(root, {"TRADEBOT_UID": str(uid), "TRADEBOT_GID": str(gid)})]
    done += _secrets(folder, settings)
    backups = private_directory(root / BACKUPS)
    if os.getuid() == 0:
        for path in (backups, *folder.iterdir()):
            os.chown(path, uid, gid)
    return done


def _container_user(root: Path) -> tuple[int, int]:
    """The user and group of the containers: as `.env` says, else whoever asks, never root."""
    uid, gid = os.getuid(), os.getgid()
    known = dotenv_values(root / DOTENV, interpolate=False)
    wanted = known.get("TRADEBOT_UID") or str(uid or CONTAINER_UID), known.get("TRADEBOT_GID") or str(gid or CONTAINER_UID)
    if not all(number.isdecimal() and int(number) for number in wanted):
        raise DeploymentError(f"{DOTENV}: TRADEBOT_UID and TRADEBOT_GID are numbers above 0, as `id -u` and `id -g` print them")
    if uid not in (0, int(wanted[0])):
        raise DeploymentError(
            f"{DOTENV} lets the containers run as user {wanted[0]}, and you are {uid}: they could not read secrets of yours; "
            f"set TRADEBOT_UID={uid}, or call this as the other user"
        )
    return int(wanted[0]), int(wanted[1])


def _dotenv(root: Path, generated: Mapping[str, str]) -> Prepared:
    """Fill what is generated into `.env`: made of the example when there is none, otherwise only what it lacks is added."""
    path = root / DOTENV
    exists = path.exists()
    lines = (path if exists else root / EXAMPLE).read_text(encoding="utf-8").splitlines()
    missing = {name: value for name, value in generated.items() if not dotenv_values(path, interpolate=False).get(name)}
    for name, value in missing.items():
        line = f"{name}={value}"
        if f"{name}=" in lines:
            lines[lines.index(f"{name}=")] = line
        else:
            lines.append(line)
    if not exists or missing:
        write_private(path, "\n".join(lines) + "\n")
    path.chmod(0o600)
    return Prepared(DOTENV, Outcome.KEPT if exists and not missing else Outcome.RENEWED if exists else Outcome.MADE)


def _secrets(folder: Path, settings: Settings) -> Iterator[Prepared]:
    accounts = {name: exchange.account for name, exchange in settings.exchanges.items() if exchange.enabled}
    kept = {
        *OTHER_PASSWORDS,
        "postgres_password_admin",
        *(f"postgres_password_{role.name}" for role in ROLES),
        *(f"redis_password_{user}" for user in user_names(accounts)),
    }
    passwords = {}
    for name in sorted(kept):
        outcome = Outcome.KEPT if (folder / name).exists() else Outcome.MADE
        passwords[name] = secret(folder / name)
        (folder / name).chmod(0o600)
        yield Prepared(f"{SECRETS}/{name}", outcome)
    for name, text in _derived(passwords, settings, accounts):
        yield _written(folder / name, text)
    for name in YOURS:
        path = folder / name
        yield _written(path, path.read_text(encoding="utf-8") if path.exists() else "")


def _derived(passwords: Mapping[str, str], settings: Settings, accounts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Name and text of every file that follows from the passwords."""
    bus = {user: passwords[f"redis_password_{user}"] for user in user_names(accounts)}
    yield "redis_users.acl", acl_file(bus, settings.mode.value, accounts)
    for user, password in bus.items():
        yield f"redis_url_{user}", f"redis://{user}:{password}@{BUS}/0\n"
    # The exporter looks its password up by address, in newer versions by address and user.
    addresses = (f"redis://{BUS}", f"redis://{EXPORTER}@{BUS}")
    yield "redis_exporter.json", json.dumps(dict.fromkeys(addresses, bus[EXPORTER])) + "\n"
    logins = {"admin": (ADMINISTRATOR, passwords["postgres_password_admin"])}
    logins |= {role.name: (role.login, passwords[f"postgres_password_{role.name}"]) for role in ROLES}
    for name, (login, password) in logins.items():
        yield f"postgres_url_{name}", f"postgresql://{login}:{password}@{DATABASE}/{DATABASE_NAME}\n"


def _written(path: Path, text: str) -> Prepared:
    """Make `path` hold `text`, and be private whatever it was."""
    former = path.read_text(encoding="utf-8") if path.exists() else None
    if former != text:
        write_private(path, text)
    path.chmod(0o600)
    outcome = Outcome.MADE if former is None else Outcome.KEPT if former == text else Outcome.RENEWED
    return Prepared(f"{SECRETS}/{path.name}", outcome)
