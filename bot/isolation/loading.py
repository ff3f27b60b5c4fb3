"""From the bytes of a plugin file to its class. Runs in a worker: executing a file is what may go wrong."""

from __future__ import annotations

import ast
import importlib.util
import linecache
import re
import sys
from pathlib import PurePath
from types import ModuleType
from typing import Any

from bot.isolation.protocol import Import, Setting
from strategy import Plugin, PluginError
from strategy import PluginSettings as Settings

NAME = "PLUGIN"
"""What a plugin file sets to its class."""

MODULES = "tradebot_plugin_files"
"""Modules of plugin files are named below this, so that a file `json.py` shadows nothing."""


def load_class(path: str, code: bytes) -> type[Plugin[Any]]:
    """Execute the code as read from `path`; raises PluginError with the file, the line and the reason, whatever it does."""
    module = _executed(path, code)
    kind = getattr(module, NAME, None)
    if kind is None:
        raise PluginError(f"{path}: sets no {NAME}; end the file with `{NAME} = YourClass`")
    if not isinstance(kind, type) or not issubclass(kind, Plugin):
        raise PluginError(f"{path}: {NAME} is {kind!r:.200}, not a subclass of strategy.Plugin")
    if not isinstance(kind.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", kind.name):
        raise PluginError(
            f"{path}: the plugin's name {kind.name!r:.50} must be lower case letters, digits and underscores, at most 32"
        )
    if kind.when_gone not in {"keep", "close"}:
        raise PluginError(f"{path}: when_gone is {kind.when_gone!r:.50}, not 'keep' or 'close'")
    return kind


def _executed(path: str, code: bytes) -> ModuleType:
    """The executed code as a module under a name of its own, which is how pydantic finds the types in its annotations."""
    module = ModuleType(f"{MODULES}.{PurePath(path).stem}")
    module.__file__ = path
    sys.modules[module.__name__] = module
    text = code.decode("utf-8", "replace")
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)  # tracebacks show lines without the file
    try:
        exec(compile(code, path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 what a plugin is
    except BaseException as error:  # a file may even call sys.exit() on import
        raise PluginError(f"{path}:{line_of(error, path)}: {words_of(error)}") from error
    return module


def words_of(error: BaseException) -> str:
    """What the error says of itself, even when its own text fails."""
    name = type(error).__name__
    if isinstance(error, MemoryError):
        return "memory: it needed more than a worker may take"
    try:
        return f"{name}: {str(error)[:1000]}"
    except BaseException as inner:  # noqa: BLE001 the exception's class is the plugin's
        return f"{name} (whose text raised {type(inner).__name__})"


def line_of(error: BaseException, path: str) -> int:
    """The last line of this file that the error went through; 0 when it went through none."""
    line = error.lineno or 0 if isinstance(error, SyntaxError) and error.filename == path else 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def imports_of(code: bytes) -> tuple[Import, ...]:
    """The top-level modules that the code names in imports anywhere, each with its first line; none when it is no Python."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    lines: dict[str, int] = {}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
        for name in names:
            top = name if name.startswith(".") else name.partition(".")[0]
            lines[top] = min(lines.get(top, node.lineno), node.lineno)  # type: ignore[attr-defined]
    return tuple(Import(name[:200], line, _found(name)) for name, line in sorted(lines.items())[:200])


def _found(module: str) -> bool:
    try:
        return not module.startswith(".") and importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, OSError):
        return False


def settings_of(kind: type[Settings]) -> tuple[Setting, ...]:
    """What can be set, as pydantic knows it."""
    settings = []
    for name, field in kind.model_fields.items():
        default = "required" if field.is_required() else repr(field.get_default(call_default_factory=True))
        kind_text = (
            field.annotation.__name__ if isinstance(field.annotation, type) else str(field.annotation).replace("typing.", "")
        )
        bounds = ", ".join(repr(part).partition("(")[2].removesuffix(")").replace("=", " ") for part in field.metadata)
        settings.append(Setting(name[:100], kind_text[:200], default[:200], bounds[:200]))
    return tuple(settings[:200])
