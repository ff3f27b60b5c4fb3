"""`tradebot config show|validate`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
import yaml
from dotenv import dotenv_values

from runtime.settings import Settings
from runtime.settings_loader import FILES, PREFIX, ConfigError
from tradebot.commands.context import AsJson, print_json, say, settings_of

OURS = "TRADEBOT_"
HOME = "TRADEBOT_HOME"

app = typer.Typer(help="Look at the configuration.", no_args_is_help=True)


@app.command()
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Print every setting with the value in force; secrets are hidden."""
    values = settings_of(context).model_dump(mode="json")
    if as_json:
        print_json(values)
    else:
        say(yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip())


@app.command()
def validate(context: typer.Context, as_json: AsJson = False) -> None:
    """Check files, .env and environment; exit code 4 for a mistake.

    Each mistake is one line with file and line, or the variable. A variable that only looks like a setting is one too.
    """
    settings = settings_of(context)
    ignored = sorted(name for name in _variables() if name.startswith(OURS) and not name.startswith(PREFIX) and name != HOME)
    meant = _lookalikes(ignored, settings)
    if meant:
        raise ConfigError("\n".join(f"{name} is no setting and is not looked at: write {right}" for name, right in meant.items()))
    if as_json:
        answer = {"valid": True, "mode": settings.mode.value, "exchanges": sorted(settings.exchanges), "ignored_variables": ignored}
        print_json(answer)
        return
    exchanges = ", ".join(sorted(settings.exchanges)) or "no exchange"
    say(f"{' and '.join(FILES)} are fine: {settings.mode.value} mode, {exchanges}")
    for name in ignored:
        say(f"{name} is set, is no setting, and is not looked at")


def _variables() -> set[str]:
    """The names of all variables that could have been meant for us."""
    dotenv = Path.cwd() / ".env"
    return {*os.environ, *(dotenv_values(dotenv, interpolate=False) if dotenv.exists() else ())}


def _lookalikes(names: list[str], settings: Settings) -> dict[str, str]:
    """Those that are settings but for their underscores, and how to write them."""
    known = {"_".join(path).upper(): PREFIX + "__".join(path).upper() for path in _paths(settings.model_dump())}
    return {name: known[bare] for name in names if (bare := name.removeprefix(OURS).replace("__", "_").upper()) in known}


def _paths(values: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield (key,)
        if isinstance(value, Mapping):
            yield from ((key, *rest) for rest in _paths(value))
