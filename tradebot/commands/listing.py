"""`tradebot list exchanges|strategies|pairs|timeframes`."""

from __future__ import annotations

from typing import get_args

import typer

from runtime.settings import Timeframe
from tradebot.commands.context import AsJson, print_rows, settings_of

TIMEFRAMES = get_args(Timeframe)


def register(app: typer.Typer) -> None:
    app.add_typer(listing, name="list")


listing = typer.Typer(help="What there is to choose from.", no_args_is_help=True)


@listing.command()
def exchanges(context: typer.Context, as_json: AsJson = False) -> None:
    """Print the known exchanges, and which are configured."""
    from connectors.registry import exchange_names

    configured = settings_of(context).exchanges
    rows = []
    for name in sorted({*exchange_names(), *configured}):
        known = configured.get(name)
        rows.append({"exchange": name, "enabled": known is not None and known.enabled, "port": known.port if known else None})
    print_rows(rows, as_json=as_json, empty="no exchanges")


@listing.command()
def pairs(context: typer.Context, as_json: AsJson = False) -> None:
    """Print the symbols that are configured, by exchange."""
    configured = settings_of(context).exchanges
    rows = [{"exchange": name, "pair": pair} for name, exchange in sorted(configured.items()) for pair in exchange.symbols]
    print_rows(rows, as_json=as_json, empty="no pairs: set symbols in config/exchanges.yaml")


@listing.command()
def timeframes(context: typer.Context, as_json: AsJson = False) -> None:
    """Print the candle lengths, and which exchanges publish them."""
    configured = settings_of(context).exchanges
    rows = []
    for timeframe in TIMEFRAMES:
        names = [name for name, exchange in sorted(configured.items()) if timeframe in exchange.timeframes]
        rows.append({"timeframe": timeframe, "published_by": ", ".join(names)})
    print_rows(rows, as_json=as_json, empty="")


@listing.command()
def strategies(context: typer.Context, as_json: AsJson = False) -> None:
    """Print the strategy files, and the mode that the configuration gives them; `tradebot plugin list` tells how they do."""
    from tradebot.plugin_files import plugin_files
    from tradebot.plugin_overview import chosen_mode

    settings = settings_of(context)
    folder = settings.bot.plugins_dir
    rows = [
        {"strategy": file.name, "mode": chosen_mode(settings, file.name)[0].value, "file": file.path}
        for file in plugin_files(folder)
    ]
    print_rows(rows, as_json=as_json, empty=f"no plugins in {folder}")
