"""Which files of a home a backup takes, and where a restore puts them."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from tradebot.backup_archive import BackupError
from tradebot.backup_home import after_database, copy_parts, homes_in, move_aside, occupied, places, put_back, running
from tradebot.process_lock import ProcessLock

STATE = (
    "installation", "journal/simulation/binance-main.journal", "lease/simulation-binance-main.epoch", "stop/state.json",
    "bot/simulation/state.log", "bot/simulation/plugins.json", "bot/plugin_versions/abc.py", "alerts/simulation/tables.log",
)  # fmt: skip
OTHERS = (
    "journal/live/binance-main.journal", "journal/simulation/binance-main.journal.new", "lease/simulation-binance-main.lock",
    "bot/live/state.log", "alerts/simulation/lock", "alerts/live/tables.log", "run/bot.pid", "valkey/password", "postgres/password", "logs/bot.log",
    "simulator/binance/ledger.log", "bot/simulation/.state.log.17",
)  # fmt: skip


def home(path: Path) -> Path:
    for name in (*STATE, *OTHERS):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    return path


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_state_of_one_mode_is_taken_and_no_password_lock_or_other_mode(tmp_path: Path) -> None:
    copy_parts({"home": home(tmp_path / "home")}, after_database("simulation"), tmp_path / "copy")
    assert files(tmp_path / "copy/home") == set(STATE)


def test_what_was_taken_goes_back_to_the_home_it_came_from_and_the_stop_last(tmp_path: Path) -> None:
    homes = {"connector": home(tmp_path / "a"), "bot": home(tmp_path / "b")}
    copy_parts(homes, after_database("simulation"), tmp_path / "copy")
    empty = {"connector": tmp_path / "c", "bot": tmp_path / "d"}
    put_back(places(tmp_path / "copy", empty, "simulation"), last="state.json")
    assert files(tmp_path / "c") == files(tmp_path / "d") == set(STATE)
    assert (tmp_path / "c/installation").stat().st_mode & 0o777 == 0o600
    times = [(tmp_path / "c" / name).stat().st_mtime_ns for name in STATE]
    assert times[STATE.index("stop/state.json")] == max(times)


@pytest.mark.parametrize(
    "name", ["home/run/bus.url", "home/valkey/password", "home/journal/live/x.journal", "stranger/installation"]
)
def test_a_file_without_a_place_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "copy" / name).parent.mkdir(parents=True)
    (tmp_path / "copy" / name).touch()
    with pytest.raises(BackupError, match="no place"):
        places(tmp_path / "copy", {"home": tmp_path / "home"}, "simulation")


def test_what_is_there_is_found_and_put_aside_whole(tmp_path: Path) -> None:
    homes = {"home": home(tmp_path / "home")}
    assert tmp_path / "home/journal/simulation" in occupied(homes, "simulation")
    move_aside(homes, "simulation", "before")
    assert occupied(homes, "simulation") == []
    assert set(STATE) <= files(tmp_path / "home/before")
    assert {"journal/live/binance-main.journal", "valkey/password", "simulator/binance/ledger.log"} <= files(tmp_path / "home")


def test_whoever_holds_a_lock_or_a_pid_file_runs(tmp_path: Path) -> None:
    homes = {"home": home(tmp_path / "home")}
    assert running(homes) == []
    lock = ProcessLock(tmp_path / "home/run", "recorder").claim()
    with (tmp_path / "home/run/bot.pid").open("rb") as pid:
        fcntl.flock(pid, fcntl.LOCK_EX)
        assert running(homes) == ["recorder", "bot"]
    assert lock is not None
    os.close(lock)


def test_a_folder_of_homes_has_one_for_each_service(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="no home directories"):
        homes_in(tmp_path)
    for name in ("bot", "connector-binance", ".hidden"):
        (tmp_path / name).mkdir()
    assert homes_in(tmp_path) == {"bot": tmp_path / "bot", "connector-binance": tmp_path / "connector-binance"}
