"""What a check says of a plugin file before it is let in."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.isolation.check import Report, check_source, read_source
from bot.isolation.source import source_of

PLUGINS = Path(__file__).resolve().parents[2] / "plugins" / "technical_indicators"

PLUGIN = """
from strategy import Direction, Plugin
{imports}

class Sample(Plugin):
    name = "sample"

    def on_ticker(self, ticker):
        {body}

    def on_book(self, book):
        yield self.signal(book, Direction.BUY, reason=f"{{len(book.bids)}} bids")

PLUGIN = Sample
"""


async def report_on(imports: str = "", body: str = "return") -> Report:
    return await check_source(source_of("sub/sample.py", PLUGIN.format(imports=imports, body=body).encode()), {})


def told(report: Report, level: str) -> list[tuple[int, str]]:
    return [(finding.line, finding.text) for finding in report.findings if finding.level == level]


@pytest.mark.parametrize("name", sorted(path.name for path in PLUGINS.glob("[a-z]*.py")))
async def test_our_own_plugins_pass_without_a_word(name: str) -> None:
    report = await check_source(read_source(PLUGINS / name, PLUGINS), {})

    assert report.usable
    assert report.facts is not None
    assert f"{report.facts.name}.py" == name
    assert told(report, "error") == []
    assert [text for _, text in told(report, "warning") if "µs" not in text] == []
    assert any("signals to made-up events" in text for _, text in told(report, "info"))


async def test_imports_that_are_of_no_use_are_told_with_the_reason() -> None:
    report = await report_on("import socket, json\nimport msgspec\nimport random")

    assert report.usable
    assert told(report, "warning") == [
        (4, "imports msgspec, which other installations may not have"),
        (5, "imports random: the same events must give the same signals: seed it, or leave it"),
        (3, "imports socket: there is no network"),
    ]


async def test_an_import_that_is_not_there_is_an_error_even_where_it_is_not_reached() -> None:
    report = await report_on(body="return\n        import no_such_module")

    assert not report.usable
    assert told(report, "error") == [(10, "imports no_such_module, which is not there")]


async def test_a_file_that_cannot_be_loaded_is_told_by_line() -> None:
    report = await check_source(source_of("sub/sample.py", b"x = 1\ny = = 1\n"), {})

    assert report.facts is None
    assert told(report, "error") == [(2, "sub/sample.py:2: SyntaxError: invalid syntax (sample.py, line 2)")]


async def test_wrong_settings_are_an_error() -> None:
    report = await check_source(source_of("sub/sample.py", PLUGIN.format(imports="", body="return").encode()), {"x": 1})

    assert told(report, "error") == [(0, "plugin sample: x: unknown setting")]


async def test_a_callback_that_fails_is_an_error_with_its_line() -> None:
    report = await report_on(body="return 1 / 0")

    assert (9, "ZeroDivisionError: division by zero (sub/sample.py:9, on_ticker)") in told(report, "error")


async def test_one_that_does_not_return_is_an_error_with_its_place() -> None:
    report = await report_on(body="while True: pass")

    ((line, text),) = told(report, "error")
    assert (line, text.startswith("endless loop: on_ticker used")) == (9, True)


async def test_chance_is_noticed() -> None:
    report = await report_on("import random", "yield self.signal(ticker, Direction.BUY, strength=random.random())")

    assert (0, "the same events gave other signals the second time: it depends on time or chance") in told(report, "warning")
