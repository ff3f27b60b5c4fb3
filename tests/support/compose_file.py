"""docker-compose.yml as Compose reads it: anchors merged, variables put in."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
OURS = "${TRADEBOT_IMAGE:-tradebot:local}"

_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?::(?P<how>[-?])(?P<what>[^}]*))?\})")


def services() -> dict[str, dict[str, Any]]:
    """Every service by name, with variables as they are written."""
    loaded: dict[str, dict[str, Any]] = compose()["services"]
    return loaded


@functools.cache
def compose() -> dict[str, Any]:
    """The whole file; read once, so nobody may change it."""
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """`value` with `${NAME}`, `${NAME:-default}` and `${NAME:?message}` replaced everywhere inside; `$$` is a dollar."""
    if isinstance(value, dict):
        return {key: interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, variables) for item in value]
    return _VARIABLE.sub(lambda found: _replacement(found, variables), value) if isinstance(value, str) else value


def _replacement(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if found["dollar"]:
        return "$"
    value = variables.get(found["name"], "")
    if value or not found["how"]:
        return value
    assert found["how"] == "-", f"{found['name']} is needed: {found['what']}"
    return found["what"]
