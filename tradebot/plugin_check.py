"""`tradebot plugin check`: which files are meant, and what was found of them in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bot.isolation.check import Finding, Report, check_source, read_source
from bot.isolation.protocol import Facts, Setting
from bot.isolation.source import PluginRefused
from common_models import Symbol
from runtime.settings import PluginSettings, Settings
from strategy import Market
from tradebot.exit_codes import CommandError, ExitCode
from tradebot.own_command import short_path
from tradebot.plugin_files import name_in, plugin_files


@dataclass(frozen=True, slots=True)
class Checked:
    """One file and what was found."""

    path: Path
    version: str
    report: Report

    def as_data(self) -> dict[str, Any]:
        """For programs."""
        return {
            "file": str(self.path),
            "usable": self.report.usable,
            "version": self.version,
            "facts": None if self.report.facts is None else msgspec.to_builtins(self.report.facts),
            "findings": [msgspec.to_builtins(finding) for finding in self.report.findings],
        }


def find(settings: Settings, wanted: Sequence[str]) -> list[Path]:
    """The files that are named, by path or by the name of a plugin; all in the plugin folder when none is named.

    Raises CommandError for what is neither.
    """
    folder = settings.bot.plugins_dir
    known = {file.name: folder / file.path for file in plugin_files(folder)}
    found = []
    for text in wanted:
        path = known.get(text, Path(text).absolute())
        if not path.is_file():
            raise CommandError(f"{text}: neither a file nor the name of a plugin in {folder}", ExitCode.NOT_FOUND)
        found.append(path)
    return found or list(known.values())


async def check(settings: Settings, path: Path) -> Checked:
    """Look one file over as the bot does, with the settings that the configuration has for it."""
    folder = settings.bot.plugins_dir if path.is_relative_to(settings.bot.plugins_dir) else path.parent
    given = settings.bot.plugins.get(name_in(path) or path.stem, PluginSettings())
    markets = [
        Market(name, str(Symbol.parse(symbol)))
        for name, exchange in settings.exchanges.items()
        if exchange.enabled
        for symbol in exchange.symbols
    ]
    try:
        source = read_source(path, folder)
    except PluginRefused as error:
        return Checked(path, "", Report(None, (Finding("error", 0, str(error)),)))
    except OSError as error:
        return Checked(path, "", Report(None, (Finding("error", 0, f"cannot be read: {error.strerror}"),)))
    return Checked(path, source.version, await check_source(source, given.settings, markets, settings.bot.worker))


def told(settings: Settings, checked: Checked) -> Iterator[str]:
    """What was found, for people: findings begin with file and line, as editors take them."""
    file, facts = short_path(checked.path), checked.report.facts
    folder = settings.bot.plugins_dir
    relative = checked.path.relative_to(folder) if checked.path.is_relative_to(folder) else checked.path.name
    name = f"{facts.name}, " if facts is not None else ""
    yield f"{file}: " + (f"{name}version {checked.version}, can run" if checked.report.usable else "cannot run")
    if facts is not None:
        given = settings.bot.plugins.get(facts.name, PluginSettings())
        yield from (f"  {label:<12}{text}" for label, text in _facts(facts, given.settings))
    for finding in checked.report.findings:
        place = f"{file}:{finding.line}" if finding.line else f"{file}"
        text = finding.text.removeprefix(f"{relative}:{finding.line}: ")
        yield f"  {text}" if finding.level == "info" else f"{place}: {finding.level}: {text}"


def _facts(facts: Facts, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "listens to", ", ".join(sorted(facts.callbacks)) or "nothing: define on_ticker, on_trade, on_book or on_candle"
    yield "warm-up", f"{facts.warm_up} candles" + (f", {facts.warm_up_events} other events" if facts.warm_up_events else "")
    yield "imports", ", ".join(one.module for one in facts.imports) or "nothing"
    yield "when gone", {"keep": "its positions are kept", "close": "its positions are closed"}[facts.when_gone]
    for number, setting in enumerate(facts.settings):
        yield "" if number else "settings", _setting(setting, given)
    if not facts.settings:
        yield "settings", "none"


def _setting(setting: Setting, given: Mapping[str, Any]) -> str:
    bounds = f" ({setting.bounds})" if setting.bounds else ""
    now = f", configured: {given[setting.name]!r}" if setting.name in given else ""
    return f"{setting.name}: {setting.type} = {setting.default}{bounds}{now}"
