"""Secrets by their well-known environment names, each also as a file: `BINANCE_API_KEY` or `BINANCE_API_KEY_FILE`."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from pydantic import SecretStr

DOTENV = Path(".env")
CONTAINER_SECRETS = Path("/run/secrets")


class SecretError(Exception):
    """A secret is missing or may be read by others; the text names it and never shows it."""


def read_secret(name: str, environ: Mapping[str, str] | None = None) -> SecretStr:
    """Return the secret `name`; raises SecretError when it is absent, empty, or in a file that others may read."""
    found = optional_secret(name, environ)
    if found is None:
        raise SecretError(f"{name} is not set; put it into the environment, .env or a file named by {name}_FILE")
    return found


def optional_secret(name: str, environ: Mapping[str, str] | None = None) -> SecretStr | None:
    """The secret `name`, None when there is none. An empty file is none: a container may be given one to be filled in later.

    Raises SecretError when it cannot be read, or can be read by others.
    """
    environ = _environment_and_dotenv() if environ is None else environ
    text = environ.get(name, "")
    path = environ.get(f"{name}_FILE", "")
    if text and path:
        raise SecretError(f"both {name} and {name}_FILE are set: keep one")
    if path:
        text = read_secret_file(Path(path), f"{name}_FILE")
    return SecretStr(text) if text else None


def _environment_and_dotenv() -> Mapping[str, str]:
    """The environment, and behind it `.env` of the folder that the process was started in, as for settings."""
    if not DOTENV.exists():
        return os.environ
    written = dotenv_values(DOTENV, interpolate=False)
    return {**{name: value for name, value in written.items() if value}, **os.environ}


def read_secret_file(path: Path, name: str) -> str:
    """The text of a file that holds a secret; raises SecretError, which begins with `name`, when it is absent or open to others.

    Below /run/secrets, where a container gets its secrets, others may read: whoever can look there is in the container already.
    """
    allowed = 0o755 if path.is_absolute() and CONTAINER_SECRETS in path.parents else 0o700
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SecretError(f"{name}: {error.strerror}: {path}") from None
    except UnicodeDecodeError:
        raise SecretError(f"{name}: {path} is not UTF-8 text") from None
    if mode & ~allowed:
        raise SecretError(f"{name}: {path} can be read by others; run `chmod 600` on it")
    return text
