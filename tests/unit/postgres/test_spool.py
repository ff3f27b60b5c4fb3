"""The recorder's spool: order, cap, survival of crashes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postgres.spool import Spool, SpoolFull
from runtime.append_log import AppendLogError

MB = 1024 * 1024


def records(start: int, stop: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in range(start, stop)]


def drained(spool: Spool, limit: int = 7) -> list[bytes]:
    found: list[bytes] = []
    while batch := list(spool.take(limit)):
        found += batch
        spool.done()
    return found


def test_records_come_back_in_order_over_segments_and_leave_no_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MB, segment_bytes=100)
    for start in range(0, 60, 4):
        spool.append(records(start, start + 4))

    assert len(list(tmp_path.glob("*.spool"))) > 3
    assert drained(spool) == records(0, 60)
    assert spool.empty
    assert spool.size_bytes == 0
    assert not list(tmp_path.glob("*.spool"))


def test_taken_records_come_again_until_they_are_done(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MB)
    spool.append(records(0, 5))

    assert spool.take(3) == spool.take(3) == records(0, 3)
    spool.append(records(5, 8))
    spool.done()
    assert drained(spool) == records(3, 8)


def test_records_appended_while_the_rest_is_taken_are_not_lost(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MB)
    spool.append(records(0, 2))
    assert spool.take(10) == records(0, 2)
    spool.append(records(2, 4))
    spool.done()

    assert not spool.empty
    assert drained(spool) == records(2, 4)


def test_a_new_process_finds_what_the_old_one_left(tmp_path: Path) -> None:
    old = Spool(tmp_path, MB, segment_bytes=50)
    old.append(records(0, 20))
    old.append(records(20, 30))
    old.take(8)
    old.done()
    old.close()

    found = drained(Spool(tmp_path, MB))
    assert found[-10:] == records(20, 30)  # the first segment may come again from its start, nothing is missing
    assert found == records(0, 30)


def test_a_torn_last_record_was_never_acknowledged_and_is_left_out(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MB)
    spool.append(records(0, 3))
    spool.close()
    segment = next(tmp_path.glob("*.spool"))
    segment.write_bytes(segment.read_bytes() + b"0badc0de {torn")

    assert drained(Spool(tmp_path, MB)) == records(0, 3)


def test_a_damaged_segment_is_set_aside_and_the_next_ones_are_drained(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MB, segment_bytes=20)
    spool.append(records(0, 3))
    spool.append(records(3, 6))
    spool.close()
    first = min(tmp_path.glob("*.spool"))
    first.write_bytes(first.read_bytes().replace(b'"n":0', b'"n":9'))

    spool = Spool(tmp_path, MB)
    assert drained(spool) == records(3, 6)
    assert spool.damaged_segments == 1
    assert list(tmp_path.glob("*.damaged"))


def test_the_cap_refuses_a_batch_whole_and_takes_it_after_draining(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 200)
    spool.append(records(0, 8))
    with pytest.raises(SpoolFull, match="spool_mb"):
        spool.append(records(8, 16))

    assert drained(spool) == records(0, 8)
    spool.append(records(8, 16))
    assert drained(spool) == records(8, 16)


def test_two_processes_cannot_share_a_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MB)
    with pytest.raises(AppendLogError, match="another process"):
        Spool(tmp_path, MB)
    spool.close()
    Spool(tmp_path, MB).close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(1, 9), st.just("take"), st.just("restart")), max_size=30))
def test_whatever_the_order_of_calls_nothing_is_lost_or_out_of_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int | str]
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    spool, written, seen = Spool(directory, MB, segment_bytes=60), 0, []
    for step in steps:
        if step == "take":
            seen += spool.take(4)
            spool.done()
        elif step == "restart":
            spool.close()
            spool = Spool(directory, MB, segment_bytes=60)
        else:
            spool.append(records(written, written + int(step)))
            written += int(step)
    seen += drained(spool)
    spool.close()

    first_times = list(dict.fromkeys(seen))
    assert first_times == records(0, written)
