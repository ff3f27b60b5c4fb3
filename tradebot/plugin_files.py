"""The strategy files in the plugin folder, and the names in them, read without running any of them."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class PluginFile:
    """`path` is relative to the plugin folder. `name` is what the class in it calls itself, else the file's own."""

    path: str
    name: str


def plugin_files(folder: Path) -> list[PluginFile]:
    """Every `.py` file below `folder` that the bot would take for a strategy, in order of their paths."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(folder)
        if not any(part.startswith(("_", ".")) for part in relative.parts):
            found.append(PluginFile(relative.as_posix(), name_in(path) or path.stem))
    return found


def name_in(path: Path) -> str:
    """The `name = "..."` of the class that PLUGIN is set to; empty when it cannot be told from the text."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return ""
        body = ast.parse(path.read_bytes()).body
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return ""
    chosen = next((value.id for target, value in _assignments(body) if target == "PLUGIN" and isinstance(value, ast.Name)), "")
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name == chosen:
            for target, value in _assignments(node.body):
                if target == "name" and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    return value.value
    return ""


def _assignments(body: list[ast.stmt]) -> list[tuple[str, ast.expr]]:
    """The plain `name = value` statements, annotated or not."""
    found: list[tuple[str, ast.expr]] = []
    for node in body:
        if isinstance(node, ast.Assign):
            found += [(target.id, node.value) for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found.append((node.target.id, node.value))
    return found
