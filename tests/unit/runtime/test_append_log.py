from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.append_log import AppendLog, AppendLogError, read_records


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log"
    with AppendLog(path, sync=True) as log:
        log.append(b'{"a":1}')
        log.append_many([b"two", b"three"])
    assert list(read_records(path)) == [b'{"a":1}', b"two", b"three"]
    assert path.stat().st_mode & 0o077 == 0


@given(st.lists(st.binary().filter(lambda raw: b"\n" not in raw), max_size=8), st.integers(0, 200))
def test_a_torn_tail_costs_the_last_record_at_most(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], cut: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    with AppendLog(path) as log:
        for record in records:
            log.append(record)
    size = max(0, path.stat().st_size - cut)
    os.truncate(path, size)
    survivors = list(read_records(path))
    assert records[: len(survivors)] == survivors
    with AppendLog(path) as log:
        log.append(b"after")
    assert list(read_records(path)) == [*survivors, b"after"]


def test_damage_in_the_middle_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with AppendLog(path) as log:
        log.append_many([b"first", b"second", b"third"])
    data = bytearray(path.read_bytes())
    data[data.index(b"second")] ^= 1
    path.write_bytes(data)
    with pytest.raises(AppendLogError, match=":2: damaged"):
        list(read_records(path))


def test_two_processes_cannot_write_one_file(tmp_path: Path) -> None:
    with AppendLog(tmp_path / "log"), pytest.raises(AppendLogError, match="in use by another process"):
        AppendLog(tmp_path / "log")


def test_a_full_disk_is_an_error_and_never_half_a_record(tmp_path: Path) -> None:
    path = tmp_path / "log"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with AppendLog(path) as log:
        log.append(b"before")
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
        try:
            with pytest.raises(OSError, match="disk took|too large"):
                log.append(b"x" * 1000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        log.append(b"after")
    assert list(read_records(path)) == [b"before", b"after"]


def test_no_file_is_no_records(tmp_path: Path) -> None:
    assert list(read_records(tmp_path / "absent")) == []
