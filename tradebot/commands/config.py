"""`tradebot config show|validate`."""

from __future__ import annotations

import typer
import yaml

from runtime.settings_loader import FILES
from tradebot.commands.context import AsJson, print_json, say, settings_of

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

    Each mistake is one line with file and line, or the variable.
    """
    settings = settings_of(context)
    if as_json:
        print_json({"valid": True, "mode": settings.mode.value, "exchanges": sorted(settings.exchanges)})
    else:
        exchanges = ", ".join(sorted(settings.exchanges)) or "no exchange"
        say(f"{' and '.join(FILES)} are fine: {settings.mode.value} mode, {exchanges}")
