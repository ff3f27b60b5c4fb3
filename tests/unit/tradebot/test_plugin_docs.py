"""docs/adding-a-plugin.md shows code that runs and commands that exist."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
import typer

from bot.isolation.protocol import MAX_SIGNALS_PER_EVENT, MAX_SIGNALS_PER_S, MAX_STATE_BYTES
from bot.isolation.runner import MAX_ERRORS
from runtime.settings import PluginSettings, WorkerSettings
from strategy import testing
from strategy.plugin import CALLBACKS, HOOKS
from tradebot.commands.app import app
from tradebot.commands.plugin import Template

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "adding-a-plugin.md").read_text(encoding="utf-8")
PLUGIN, TEST = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_example_passes_the_test_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("plugins.momentum")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(PLUGIN, module.__dict__)
    names: dict[str, object] = {}
    exec(TEST, names)
    tests = [value for name, value in names.items() if name.startswith("test_") and callable(value)]
    assert len(tests) == 2
    for test in tests:
        test()


def test_every_command_in_it_exists() -> None:
    group = typer.main.get_command(app)
    plugin = getattr(group, "commands", {})["plugin"]
    for name in re.findall(r"tradebot plugin ([a-z]+)", TEXT):
        assert name in getattr(plugin, "commands", {}), name


def test_it_names_every_callback_hook_template_mode_and_helper() -> None:
    modes = get_args(PluginSettings.model_fields["mode"].annotation)
    helpers = [name for name in testing.__all__ if name.islower()]
    for word in (*CALLBACKS.values(), *HOOKS, *get_args(Template), *modes, *helpers, "when_gone", "heartbeat"):
        assert word in TEXT, word


def test_its_limits_are_those_in_force() -> None:
    limits = WorkerSettings()
    assert f"| {limits.call_s:.0f} s |" in TEXT
    assert f"| {limits.memory_mb} MB |" in TEXT
    assert f"| {limits.log_lines_per_s} a second, {limits.log_mb} MB kept |" in TEXT
    assert f"{MAX_SIGNALS_PER_EVENT} for one event, {MAX_SIGNALS_PER_S} a second" in TEXT
    assert f"at most {MAX_STATE_BYTES // 1024**2} MB" in TEXT
    assert MAX_ERRORS == 5, "the fifth ends it"
