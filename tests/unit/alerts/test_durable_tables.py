"""Tables that survive: all changes of a commit or none, whatever happens in between."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.durable_tables import DurableTables, Table
from runtime.append_log import AppendLogError, framed


class Row(msgspec.Struct):
    name: str
    count: int = 0


def opened(home: Path) -> tuple[DurableTables, Table[Row], Table[int]]:
    tables = DurableTables(home)
    rows, numbers = tables.table("rows", Row), tables.table("numbers", int)
    tables.load()
    return tables, rows, numbers


def test_what_was_committed_is_there_again_and_nothing_else(tmp_path: Path) -> None:
    tables, rows, numbers = opened(tmp_path)
    rows.put("a", Row("a", 1))
    numbers.put("n", 7)
    tables.commit()
    rows.put("b", Row("b"))
    rows.drop("a")
    tables.close()
    _, rows, numbers = opened(tmp_path)
    assert dict(rows.rows) == {"a": Row("a", 1)}
    assert dict(numbers.rows) == {"n": 7}


def test_a_torn_last_record_costs_that_commit_only(tmp_path: Path) -> None:
    tables, rows, _ = opened(tmp_path)
    for name in "ab":
        rows.put(name, Row(name))
        tables.commit()
    tables.close()
    path = tmp_path / "tables.log"
    path.write_bytes(path.read_bytes()[:-3])
    _, rows, _ = opened(tmp_path)
    assert list(rows.rows) == ["a"]


@pytest.mark.parametrize("second", [b"garbage\n", b"00000000 {}\n", framed(b'{"numbers": {"n": "no number"}}')])
def test_of_a_damaged_file_the_sound_beginning_counts_and_the_file_is_kept(tmp_path: Path, second: bytes) -> None:
    tables, rows, _ = opened(tmp_path)
    for name in "abc":
        rows.put(name, Row(name))
        tables.commit()
    tables.close()
    path = tmp_path / "tables.log"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + second + lines[2])
    tables, rows, _ = opened(tmp_path)
    assert list(rows.rows) == ["a"]
    [kept] = tmp_path.glob("*.damaged")
    assert kept.name in tables.damage
    tables.close()
    tables, rows, _ = opened(tmp_path)
    assert (list(rows.rows), tables.damage) == (["a"], "")


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    first, _, _ = opened(tmp_path)
    with pytest.raises(AppendLogError, match="in use"):
        DurableTables(tmp_path)
    first.close()


def test_a_commit_that_the_disk_refused_is_part_of_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables, rows, _ = opened(tmp_path)
    rows.put("a", Row("a"))
    with monkeypatch.context() as broken:
        broken.setattr("runtime.append_log.AppendLog.append", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(OSError, match="No space"):
            tables.commit()
    assert tables.changed
    rows.put("b", Row("b"))
    tables.commit()
    tables.close()
    assert list(opened(tmp_path)[1].rows) == ["a", "b"]


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from("abcde"), st.one_of(st.none(), st.integers(0, 9)), st.booleans()), max_size=60))
def test_compaction_changes_nothing(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int | None, bool]]) -> None:
    home = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as small:
        small.setattr("alerts.durable_tables.COMPACT_BYTES", 200)
        tables, rows, _ = opened(home)
        committed: dict[str, Row] = {}
        for key, count, commit in steps:
            if count is None:
                rows.drop(key)
            else:
                rows.put(key, Row(key, count))
            if commit:
                tables.commit()
                committed = dict(rows.rows)
        tables.close()
        again, rows, _ = opened(home)
        assert dict(rows.rows) == committed
        again.close()


def test_the_file_stays_short_however_often_a_row_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerts.durable_tables.COMPACT_BYTES", 2_000)
    tables, rows, _ = opened(tmp_path)
    for count in range(500):
        rows.put("a", Row("a", count))
        tables.commit()
    assert (tmp_path / "tables.log").stat().st_size == tables.size_bytes < 5_000
