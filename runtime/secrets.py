"""Secrets by their well-known environment names, each also as a file: `BINANCE_API_KEY` or `BINANCE_API_KEY_FILE`."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr


class SecretError(Exception):
    """A secret is missing or may be read by others; the text names it and never shows it."""


def read_secret(name: str, environ: Mapping[str, str] | None = None) -> SecretStr:
    """Return the secret `name`; raises SecretError when it is absent, empty, or in a file that others may read."""
    environ = os.environ if environ is None else environ
    text = environ.get(name, "")
    path = environ.get(f"{name}_FILE", "")
    if text and path:
        raise SecretError(f"both {name} and {name}_FILE are set: keep one")
    if path:
        try:
            mode = Path(path).stat().st_mode
            text = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SecretError(f"{name}_FILE: {error.strerror}: {path}") from None
        if stat.S_IMODE(mode) & 0o077:
            raise SecretError(f"{name}_FILE: {path} can be read by others; run `chmod 600` on it")
    if not text:
        raise SecretError(f"{name} is not set; put it into the environment, .env or a file named by {name}_FILE")
    return SecretStr(text)
