"""What plugins print is bounded, escaped, redacted and kept by plugin."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bot.isolation.plugin_log import PluginLog
from bot.isolation.source import source_of

MakeLog = Callable[..., tuple[PluginLog, int]]


@pytest.fixture
def make_log(tmp_path: Path) -> Iterator[MakeLog]:
    ends: list[int] = []

    def make(lines_per_s: int = 10, max_bytes: int = 1_000_000) -> tuple[PluginLog, int]:
        pipe, end = os.pipe()
        os.set_blocking(pipe, False)
        ends.append(end)
        return PluginLog(pipe, tmp_path, source_of("sub/sample.py", b""), lines_per_s, max_bytes), end

    yield make
    for end in ends:
        os.close(end)


def words(path: Path) -> list[str]:
    return [line.split(" ", 2)[2] for line in path.read_text().splitlines()]


def test_lines_wait_until_the_name_is_known(make_log: MakeLog, tmp_path: Path) -> None:
    log, end = make_log()
    os.write(end, b"one\ntwo\nthr")
    log.read(0.1)
    assert list(tmp_path.iterdir()) == []
    log.named("sample")
    os.write(end, b"ee\n")
    log.read(0.1)

    assert words(tmp_path / "sample.log") == ["one", "two", "three"]
    stamp, version, _ = (tmp_path / "sample.log").read_text().splitlines()[0].split(" ", 2)
    assert stamp.endswith("+00:00")
    assert version == source_of("", b"").version


def test_a_plugin_whose_name_never_became_known_has_a_log_by_its_file(make_log: MakeLog, tmp_path: Path) -> None:
    log, end = make_log()
    os.write(end, b"last words")
    log.close("sample_file")

    assert words(tmp_path / "sample_file.log") == ["last words"]


def test_nothing_that_it_prints_can_command_a_terminal_or_show_a_secret(make_log: MakeLog, tmp_path: Path) -> None:
    log, end = make_log()
    log.named("sample")
    os.write(end, b"\x1b[2Jx\r\xff password=hunter2\n")
    log.read(0.1)

    (line,) = words(tmp_path / "sample.log")
    assert line == "\\x1b[2Jx\\x0d\\xff password=***"


def test_a_flood_is_told_and_a_burst_is_not(make_log: MakeLog) -> None:
    log, end = make_log(lines_per_s=10)
    os.write(end, b"x\n" * 30)
    assert log.read(0.1) == ""
    os.write(end, b"x\n" * 30)
    assert log.read(0.1) == "log flood: more than 10 lines a second"


def test_a_line_without_an_end_counts_by_its_length(make_log: MakeLog) -> None:
    log, end = make_log(lines_per_s=10)
    os.write(end, b"x" * 60_000)

    assert log.read(0.1).startswith("log flood")


def test_a_long_line_is_cut(make_log: MakeLog, tmp_path: Path) -> None:
    log, end = make_log()
    log.named("sample")
    os.write(end, b"x" * 2500 + b"\n")
    log.read(0.1)

    assert [len(line) for line in words(tmp_path / "sample.log")] == [1000]


def test_both_files_together_stay_within_the_bound(make_log: MakeLog, tmp_path: Path) -> None:
    log, end = make_log(lines_per_s=10_000, max_bytes=20_000)
    log.named("sample")
    for _ in range(50):
        os.write(end, b"y" * 500 + b"\n")
        log.read(1.0)

    assert {path.name for path in tmp_path.iterdir()} == {"sample.log", "sample.log.1"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 22_000


def test_the_place_in_its_file_is_found_in_what_the_interpreter_says(make_log: MakeLog) -> None:
    log, end = make_log()
    os.write(
        end,
        b'Stack (most recent call first):\n  File "/lib/re.py", line 9 in match\n  File "sub/sample.py", line 12 in on_ticker\n',
    )
    log.read(0.1)

    assert log.place == "sub/sample.py:12 in on_ticker"
