"""The record of taken updates: it outlives a process, stays small, and knows when ids begin anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from alerts.telegram import update_log
from alerts.telegram.update_log import KEPT_BY_TELEGRAM_NS, Taken, UpdateLog

NOW_NS = 1_795_000_000_000_000_000


def taken(update_id: int, at_ns: int = NOW_NS) -> Taken:
    return Taken(update_id=update_id, at_ns=at_ns, user_id=1, chat_id=1, text=f"/pause {update_id}")


def opened(tmp_path: Path) -> UpdateLog:
    return UpdateLog(tmp_path / "telegram" / "updates.log")


def test_what_was_taken_is_known_to_the_next_process(tmp_path: Path) -> None:
    log = opened(tmp_path)
    assert (log.next_offset(NOW_NS), log.is_new(7, NOW_NS)) == (0, True)
    log.take(taken(7), durable=True)
    log.end(7)
    log.take(taken(8), durable=False)
    log.close()

    log = opened(tmp_path)
    assert [entry.update_id for entry in log.unfinished] == [8]
    assert log.next_offset(NOW_NS) == 9
    assert [log.is_new(update_id, NOW_NS) for update_id in (6, 7, 8, 9)] == [False, False, False, True]
    log.end(8)
    log.end(8)
    log.end(404)
    assert log.unfinished == []


def test_a_torn_last_record_is_cut_off(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.take(taken(7), durable=True)
    log.close()
    path = tmp_path / "telegram" / "updates.log"
    path.write_bytes(path.read_bytes() + b'1234abcd {"update_id":8')
    assert not opened(tmp_path).is_new(7, NOW_NS)


def test_ids_may_begin_anew_after_more_than_a_day_of_silence(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.take(taken(900), durable=False)
    later_ns = NOW_NS + KEPT_BY_TELEGRAM_NS + 1
    assert not log.is_new(5, NOW_NS + 1)
    assert log.is_new(5, later_ns)
    assert log.next_offset(later_ns) == 0
    log.take(taken(5, later_ns), durable=False)
    assert log.next_offset(later_ns) == 6
    assert [log.is_new(update_id, later_ns) for update_id in (5, 6, 900)] == [False, True, False]


def test_the_file_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_log, "REMEMBERED", 20)
    monkeypatch.setattr(update_log, "REWRITE_AT", 50)
    log = opened(tmp_path)
    for update_id in range(1, 500):
        log.take(taken(update_id), durable=False)
        log.end(update_id)
    log.close()
    path = tmp_path / "telegram" / "updates.log"
    assert len(path.read_bytes().splitlines()) <= 51
    log = opened(tmp_path)
    assert log.next_offset(NOW_NS) == 500
    assert not log.is_new(490, NOW_NS)
