"""Secrets and folders that only their owner may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from runtime.endpoints import write_private

SECRET_BYTES = 32


def private_directory(path: Path) -> Path:
    """Create `path` (0700) with its parents if it is absent, and return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def secret(path: Path) -> str:
    """Return the secret kept in `path`, made at random (0600, URL-safe characters) when there is none yet."""
    try:
        kept = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        kept = ""
    if not kept:
        kept = secrets.token_urlsafe(SECRET_BYTES)
        write_private(path, kept + "\n")
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # data that only this secret opens must not outlive it
        finally:
            os.close(descriptor)
    return kept
