"""Merge defaults, files, `.env`, environment and command line into `Settings`; say file, line and key of every mistake."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from dotenv import dotenv_values
from pydantic import BaseModel, ValidationError

from runtime.settings import Settings

PREFIX = "TRADEBOT__"
FILES = ("config/tradebot.yaml", "config/exchanges.yaml")
MAX_FILE_BYTES = 1_000_000

M = TypeVar("M", bound=BaseModel)


class ConfigError(Exception):
    """The configuration cannot be used. The text names file (or variable), line and key, one problem a line."""


@dataclass(slots=True)
class _Layer:
    """Nested values and, for each path of keys, where it was written."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[tuple[str, ...], str] = field(default_factory=dict)

    def merge(self, other: _Layer) -> None:
        _merge(self.values, other.values)
        self.places.update(other.places)

    def set(self, path: tuple[str, ...], value: Any, place: str) -> None:
        node = self.values
        for depth, key in enumerate(path[:-1], start=1):
            child = node.setdefault(key, {})
            if not isinstance(child, dict):
                raise ConfigError(f"{place}: {'.'.join(path[:depth])} is a value, not a section")
            node = child
            self.places.setdefault(path[:depth], place)
        node[path[-1]] = value
        self.places[path] = place


def load_settings(
    root: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    files: Sequence[Path] | None = None,
) -> Settings:
    """Return the settings of a checkout; raises ConfigError.

    Precedence, strongest first: `overrides` (dotted keys from the command line), environment `TRADEBOT__SECTION__KEY`,
    `.env` beside the configuration, then `config/*.yaml` in order. `TRADEBOT_HOME` is short for `home`.
    """
    root = Path.cwd() if root is None else root
    environ = os.environ if environ is None else environ
    paths = [root / name for name in FILES] if files is None else list(files)
    merged = _Layer()
    for path in paths:
        if path.exists():
            merged.merge(_read_yaml(path, section="exchanges" if path.name == "exchanges.yaml" else None))
        elif files is not None:
            raise ConfigError(f"{path}: no such file")
    dotenv = root / ".env"
    if dotenv.exists():
        pairs = {key: value for key, value in dotenv_values(dotenv, interpolate=False).items() if value is not None}
        merged.merge(_read_environment(pairs, ".env: "))
    merged.merge(_read_environment(environ, "environment: "))
    for dotted, value in (overrides or {}).items():
        merged.set(tuple(dotted.split(".")), value, "command line: ")
    try:
        settings = Settings.model_validate(merged.values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(merged, problem) for problem in error.errors())) from None
    bot = settings.bot.model_copy(update={"plugins_dir": root / settings.bot.plugins_dir})
    alerts = settings.alerts.model_copy(update={"rules": root / settings.alerts.rules})
    return settings.model_copy(update={"home": root / settings.home, "bot": bot, "alerts": alerts})  # absolute paths stay


def load_file(path: Path, model: type[M], known_keys: str) -> M:
    """One YAML file as a model of its own, with the same rules and messages; `known_keys` says where its keys are documented.

    Raises ConfigError, also when there is no such file.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such file")
    layer = _read_yaml(path, section=None)
    try:
        return model.model_validate(layer.values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(layer, problem, known_keys) for problem in error.errors())) from None


def _read_yaml(path: Path, section: str | None) -> _Layer:
    """Values and line numbers of one YAML file; its keys lie below `section` when one is given."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    layer = _Layer()
    if node is None:
        return layer
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}:{node.start_mark.line + 1}: expected keys and values at the top level")
    base = (section,) if section else ()
    values = _construct(node, path, base, layer.places)
    layer.values = {section: values} if section else values
    return layer


class _Loader(yaml.SafeLoader):
    """YAML without its surprises: only true and false are booleans, there are no dates, and no aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not supported", event.start_mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _construct(node: yaml.Node, path: Path, keys: tuple[str, ...], places: dict[tuple[str, ...], str]) -> Any:
    """The value of a node; duplicate keys are an error that names both lines."""
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in values:
                raise ConfigError(f"{path}:{line}: {'.'.join((*keys, key))} is set twice, first in line {lines[key]}")
            lines[key] = line
            places[(*keys, key)] = f"{path}:{line}: "
            values[key] = _construct(value_node, path, (*keys, key), places)
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_construct(item, path, (*keys, str(index)), places) for index, item in enumerate(node.value)]
    text = str(node.value)
    if node.tag == "tag:yaml.org,2002:null":
        return None
    if node.tag == "tag:yaml.org,2002:str" and getattr(node, "style", None) is None and text in ("true", "false"):
        return text == "true"
    if node.tag == "tag:yaml.org,2002:int" and text.lstrip("+-").isdecimal():
        return int(text) if len(text) <= 30 else text  # longer is text, and no integer field takes it
    return text  # numbers stay text: the model decides between int, float and Decimal without a float on the way


def _read_environment(pairs: Mapping[str, str], place: str) -> _Layer:
    layer = _Layer()
    for name, text in pairs.items():
        if name == "TRADEBOT_HOME":
            layer.set(("home",), text, f"{place}{name}: ")
        elif name.startswith(PREFIX):
            path = tuple(part.lower() for part in name.removeprefix(PREFIX).split("__"))
            if not all(path):
                raise ConfigError(f"{place}{name}: an empty section or key; write {PREFIX}SECTION__KEY")
            layer.set(path, _environment_value(text, f"{place}{name}"), f"{place}{name}: ")
    return layer


def _environment_value(text: str, place: str) -> Any:
    """Text, or a list or mapping when it is written in YAML's flow style: `[BTC/USDT, ETH/USDT]`."""
    if text[:1] not in ("[", "{"):
        return text
    try:
        node = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError):
        raise ConfigError(f"{place}: not a list or mapping like [a, b]") from None
    return None if node is None else _construct(node, Path(place), (), {})


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _explain(merged: _Layer, problem: Any, known_keys: str = "`tradebot config show` lists the known ones") -> str:
    """One line for one pydantic problem: where it was written, the key, and what is expected."""
    keys = _without_union_members(tuple(str(part) for part in problem["loc"]), merged)
    place = ""
    for length in range(len(keys), 0, -1):
        if keys[:length] in merged.places:
            place = merged.places[keys[:length]]
            break
    text = problem["msg"]
    if problem["type"] == "extra_forbidden":
        text = f"unknown key; {known_keys}"
    return f"{place}{'.'.join(keys)}: {text}" if keys else text


def _without_union_members(keys: tuple[str, ...], merged: _Layer) -> tuple[str, ...]:
    """The keys as they were written: pydantic puts the chosen member of a union between them."""
    for index in range(1, len(keys) - 1):
        shorter = keys[:index] + keys[index + 1 :]
        if keys[: index + 1] not in merged.places and shorter[: index + 1] in merged.places:
            return shorter
    return keys
