"""`tradebot plugin new` writes what is right at once: linted, typed, tested, and under a name that is free."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from tradebot.commands.plugin import Template
from tradebot.exit_codes import CommandError, ExitCode
from tradebot.new_plugin import template_names, write_plugin
from tradebot.plugin_files import plugin_files

REPOSITORY = Path(__file__).resolve().parents[3]
SHORTEST, LONGEST = "a", "as_long_as_a_name_of_one_may_be"
TEMPLATES = template_names()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with nothing in its plugin folder."""
    for package in ("common_models", "strategy", "trading"):
        (tmp_path / package).symlink_to(REPOSITORY / package)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "__init__.py").write_text('"""Strategies."""\n')
    return tmp_path


def program(checkout: Path, *arguments: str) -> str:
    """The output of a Python tool that is content with the checkout."""
    command = [sys.executable, "-m", *arguments]
    result = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_templates_are_those_that_the_command_offers() -> None:
    assert sorted(get_args(Template)) == TEMPLATES


def test_every_template_is_linted_formatted_typed_and_passes_its_test_under_any_name(checkout: Path) -> None:
    for number, template in enumerate(TEMPLATES):
        for start in (SHORTEST, LONGEST):
            folder = checkout / "plugins" / "mine" if number % 2 else None
            write_plugin(checkout / "plugins", f"{start}{number}", template, folder)

    program(checkout, "ruff", "check", "plugins", "tests")
    program(checkout, "ruff", "format", "--check", "plugins", "tests")
    program(checkout, "mypy", "plugins")
    assert "passed" in program(checkout, "pytest", "-p", "no:cacheprovider", "tests/unit/plugins")
    assert len(plugin_files(checkout / "plugins")) == 2 * len(TEMPLATES)


@pytest.mark.parametrize("template", TEMPLATES)
def test_outside_of_a_checkout_the_test_lies_beside_and_the_bot_passes_it_over(tmp_path: Path, template: str) -> None:
    written = write_plugin(tmp_path / "my-strategies", "momentum", template)

    assert written.test == tmp_path / "my-strategies" / "_test_momentum.py"
    assert [file.path for file in plugin_files(tmp_path / "my-strategies")] == ["momentum.py"]
    compile(written.test.read_text(), str(written.test), "exec")


def test_the_test_beside_finds_its_strategy(tmp_path: Path) -> None:
    for template in TEMPLATES:
        write_plugin(tmp_path / "mine", f"like_{template}", template)

    tests = [str(path) for path in (tmp_path / "mine").glob("_test_*.py")]
    assert "passed" in program(REPOSITORY, "pytest", "-p", "no:cacheprovider", *tests)


def test_a_class_never_has_the_name_of_what_it_uses(tmp_path: Path) -> None:
    text = write_plugin(tmp_path, "candle", "candles").plugin.read_text()

    assert "class CandleStrategy(Plugin[CandleStrategySettings])" in text
    assert "def on_candle(self, candle: Candle)" in text


@pytest.mark.parametrize("name", ["", "Momentum", "1up", "_hidden", "with-dash", "a" * 33, "../up", "lambda", "json", "name\n"])
def test_a_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandError) as refused:
        write_plugin(tmp_path, name, "minimal")

    assert refused.value.code == ExitCode.NOT_FOUND
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_taken_by_a_file_and_by_what_a_file_calls_its_plugin(checkout: Path) -> None:
    plugins = checkout / "plugins"
    first = write_plugin(plugins, "momentum", "minimal", plugins / "mine")
    first.plugin.rename(first.plugin.with_name("other.py"))

    for name in ("momentum", "other"):
        with pytest.raises(CommandError, match=r"is taken by .*mine/other\.py"):
            write_plugin(plugins, name, "minimal")


def test_a_test_that_is_there_is_not_written_over(checkout: Path) -> None:
    tests = checkout / "tests" / "unit" / "plugins"
    tests.mkdir()
    (tests / "test_momentum.py").write_text("mine")

    with pytest.raises(CommandError, match="exists already"):
        write_plugin(checkout / "plugins", "momentum", "minimal")

    assert (tests / "test_momentum.py").read_text() == "mine"
    assert plugin_files(checkout / "plugins") == []


@pytest.mark.parametrize("folder", ["elsewhere", "plugins/../up", "plugins/_hidden", "plugins/a b"])
def test_a_folder_where_the_bot_would_not_look_is_refused(checkout: Path, folder: str) -> None:
    with pytest.raises(CommandError) as refused:
        write_plugin(checkout / "plugins", "momentum", "minimal", checkout / folder)

    assert refused.value.code == ExitCode.NOT_FOUND
    assert plugin_files(checkout / "plugins") == []


def test_an_unknown_template_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="book, candles, cross, minimal, ticks"):
        write_plugin(tmp_path, "momentum", "magic")
