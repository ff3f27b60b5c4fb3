"""How pg_dump and pg_restore are found and called: the right version, and no password where others could read it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tradebot import backup_database
from tradebot.backup_archive import BackupError
from tradebot.backup_database import dump, tool


def program(path: Path, version: str, script: str = "") -> Path:
    """An executable that says its version, and otherwise runs `script`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\ncase "$*" in --version) echo "pg_dump (PostgreSQL) {version}"; exit 0;; esac\n{script}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(backup_database, "_candidates", lambda name: tmp_path.glob(f"*/{name}"))
    return tmp_path


def test_the_oldest_that_understands_the_server_is_taken(programs: Path) -> None:
    for version in ("14.9", "16.2", "18.4"):
        program(programs / version / "pg_dump", version)
    broken = programs / "broken" / "pg_dump"
    broken.parent.mkdir()
    broken.write_text("not a program")
    assert tool("pg_dump", "15.18").parent.name == "16.2"
    assert tool("pg_dump", "18.1").parent.name == "18.4"
    with pytest.raises(BackupError, match="no pg_dump of PostgreSQL 19 or newer"):
        tool("pg_dump", "19.0")


def test_the_password_is_on_no_command_line(programs: Path, tmp_path: Path) -> None:
    program(programs / "18" / "pg_dump", "18.4", f'echo "$*" > {tmp_path}/arguments; echo "$PGPASSWORD" > {tmp_path}/password')
    dump("postgresql://me:p%40ss@host:5432/db?sslmode=disable", "simulation", "18.4", tmp_path / "dump")
    arguments = (tmp_path / "arguments").read_text()
    assert "p%40ss" not in arguments
    assert "--dbname=postgresql://me@host:5432/db?sslmode=disable" in arguments
    assert "--schema=simulation" in arguments
    assert (tmp_path / "password").read_text() == "p@ss\n"


def test_what_it_said_when_it_failed_is_told(programs: Path, tmp_path: Path) -> None:
    program(programs / "18" / "pg_dump", "18.4", "echo 'permission denied for schema simulation' >&2; exit 1")
    with pytest.raises(BackupError, match="permission denied for schema simulation"):
        dump("postgresql://me:secret@host/db", "simulation", "18.4", tmp_path / "dump")
