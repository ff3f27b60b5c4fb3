"""Finds plugin files and loads each by its path: nothing is put on the import path, and one bad file costs itself only."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import structlog

from strategy import Market, Plugin, PluginError, make_plugin

log = structlog.get_logger(__name__)

NAME = "PLUGIN"
"""What a plugin file sets to its class."""


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """One file that was understood."""

    path: Path
    kind: type[Plugin[Any]]


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """One file that was not, and what to change."""

    path: Path
    reason: str


def load_plugins(directory: Path) -> tuple[list[LoadedPlugin], list[BrokenPlugin]]:
    """Load every `.py` file below `directory` whose name does not begin with an underscore, in order of their paths.

    Two files with the same plugin name are one good and one broken: the first wins.
    """
    loaded: list[LoadedPlugin] = []
    broken: list[BrokenPlugin] = []
    names: dict[str, Path] = {}
    for path in sorted(directory.rglob("*.py")):
        if any(part.startswith(("_", ".")) for part in path.relative_to(directory).parts):
            continue
        try:
            plugin = load_plugin(path, directory)
        except PluginError as error:
            broken.append(BrokenPlugin(path, str(error)))
            continue
        name = plugin.kind.name
        if name in names:
            broken.append(BrokenPlugin(path, f"the name {name!r} is taken by {names[name]}; choose another"))
            continue
        names[name] = path
        loaded.append(plugin)
    return loaded, broken


def load_plugin(path: Path, directory: Path) -> LoadedPlugin:
    """Load one file; raises PluginError with the file, the line and the reason, whatever the file does on import."""
    module = _module(path, directory)
    kind = getattr(module, NAME, None)
    if kind is None:
        raise PluginError(f"{path}: sets no {NAME}; end the file with `{NAME} = YourClass`")
    if not isinstance(kind, type) or not issubclass(kind, Plugin):
        raise PluginError(f"{path}: {NAME} is {kind!r}, not a subclass of strategy.Plugin")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", kind.name):
        raise PluginError(f"{path}: the plugin's name {kind.name!r} must be lower case letters, digits and underscores, at most 32")
    return LoadedPlugin(path, kind)


def _module(path: Path, directory: Path) -> ModuleType:
    """The executed file as a module under a name of its own, which is how pydantic finds the types in its annotations."""
    dotted = ".".join(path.relative_to(directory).with_suffix("").parts)
    name = f"tradebot_plugin_files.{dotted}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # a file may even call sys.exit() on import
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise PluginError(f"{path}:{_line_of(error, path)}: {type(error).__name__}: {error}") from error
    return module


def _line_of(error: BaseException, path: Path) -> int:
    """The last line of this file that the error went through."""
    line = error.lineno or 0 if isinstance(error, SyntaxError) else 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def needs_of(kind: type[Plugin[Any]], settings: Mapping[str, Any]) -> tuple[int, frozenset[str]]:
    """How many candles a plugin with these settings needs to warm up, and its callbacks; (0, none) when it cannot be made."""
    try:
        trial = make_plugin(kind, settings, Market("", ""))
        return trial.warm_up, trial.subscriptions()
    except Exception as error:  # noqa: BLE001 the boundary to code that is not ours; starting it for good tells a person
        log.info("plugin.cannot_be_made", plugin=kind.name, reason=str(error))
        return 0, frozenset()
