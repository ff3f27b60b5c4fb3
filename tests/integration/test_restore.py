"""What a restore refuses before it touches anything."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from postgres.schema import HEAD
from runtime.settings import Settings
from tradebot.backup_archive import BackupError, Manifest, pack
from tradebot.process_lock import ProcessLock
from tradebot.restore import restore

GOOD = Manifest(
    mode="simulation", created_ns=1, tradebot="0.0.1", schema=HEAD, postgres="18.4", bus="valkey 9", homes=("home",), steps=(), files=()
)  # fmt: skip


def archive(folder: Path, **changes: object) -> Path:
    (folder / "source").mkdir()
    (folder / "source/file").write_text("x")
    pack(folder / "source", msgspec.structs.replace(GOOD, **changes), folder / "backup.tar.gz")
    return folder / "backup.tar.gz"


def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"home": tmp_path / "home", "bus": {"port": 0}, "postgres": {"port": 0}})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mode": "live"}, "a backup of mode live"),
        ({"schema": "9999"}, "newer than this one"),
        ({"tradebot": "99.0"}, "newer than this one"),
        ({"homes": ("bot", "connector-binance")}, "none here for bot, connector-binance"),
        ({"format": 7}, "format 7"),
    ],
)
async def test_a_backup_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(BackupError, match=reason):
        await restore(settings(tmp_path), archive(tmp_path, **changes), {"home": tmp_path / "home"})
    assert list((tmp_path / "home").iterdir()) == []


async def test_a_damaged_backup_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BackupError, match="damaged"):
        await restore(settings(tmp_path), path, {"home": tmp_path / "home"})


async def test_a_home_that_holds_something_or_runs_is_left_alone(tmp_path: Path) -> None:
    path, home = archive(tmp_path), tmp_path / "home"
    (home / "journal/simulation").mkdir(parents=True)
    (home / "journal/simulation/binance-main.journal").write_text("precious")
    with pytest.raises(BackupError, match="--force"):
        await restore(settings(tmp_path), path, {"home": home})
    lock = ProcessLock(home / "run", "bot").claim()
    assert lock is not None
    with pytest.raises(BackupError, match=r"still running .*bot"):
        await restore(settings(tmp_path), path, {"home": home}, force=True)
    os.close(lock)
    assert (home / "journal/simulation/binance-main.journal").read_text() == "precious"
