"""Who is alive, told by the kernel and not by a number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tradebot.process_lock import ProcessLock, locks_in


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    lock = ProcessLock(tmp_path / "run", "bot")
    held = lock.claim()
    assert held is not None
    assert lock.held
    assert ProcessLock(tmp_path / "run", "bot").claim() is None

    os.close(held)

    assert not lock.held
    assert lock.holder() is None


def test_the_holder_is_the_noted_process(tmp_path: Path) -> None:
    lock = ProcessLock(tmp_path, "bot")
    held = lock.claim()
    assert held is not None
    lock.write(held, os.getpid())

    holder = lock.holder()

    assert holder is not None
    assert holder.pid == os.getpid()
    os.close(held)


@pytest.mark.parametrize("note", ["", "{}", "not json", '{"pid": 1, "started_s": 1.0}', '{"pid": 99999999, "started_s": 0}', "[1]"])
def test_a_note_that_does_not_fit_is_not_believed(tmp_path: Path, note: str) -> None:
    lock = ProcessLock(tmp_path, "bot")
    held = lock.claim()
    assert held is not None
    child = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"], pass_fds=(held,))
    os.close(held)
    try:
        lock.path.write_text(note)
        holder = lock.holder()
        assert holder is not None
        assert holder.pid == child.pid
    finally:
        child.kill()
        child.wait()


def test_a_lock_outlives_its_process_while_a_helper_works_on(tmp_path: Path) -> None:
    lock = ProcessLock(tmp_path, "postgres")
    held = lock.claim()
    assert held is not None
    helper = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"], pass_fds=(held,))
    lock.write(held, 99_999_999)  # the main process is gone
    os.close(held)
    try:
        assert lock.held
    finally:
        helper.kill()
        helper.wait()
    assert not lock.held


def test_all_locks_of_a_home_are_found(tmp_path: Path) -> None:
    for name in ("bot", "connector-binance"):
        held = ProcessLock(tmp_path, name).claim()
        assert held is not None
        os.close(held)

    assert [lock.name for lock in locks_in(tmp_path)] == ["bot", "connector-binance"]
    assert locks_in(tmp_path / "absent") == []
