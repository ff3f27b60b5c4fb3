"""The whole command line, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from tradebot.commands import (
    alerts,
    backup,
    bus,
    config,
    database,
    environment,
    history,
    listing,
    plugin,
    safety,
    services,
    stack,
    wire,
)
from tradebot.commands.context import Options

app = typer.Typer(
    name="tradebot",
    help="Event-driven crypto trading: connectors, a plugin bot and a recorder that meet on Redis Streams.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 success, 1 error, 2 not found or bad usage, 3 not running, 4 configuration error, 5 time-out.",
)


@app.callback()
def options(
    context: typer.Context,
    home: Annotated[str | None, typer.Option(help="Where all state lies, instead of TRADEBOT_HOME or .tradebot.")] = None,
    mode: Annotated[str | None, typer.Option(help="simulation, paper or live, instead of the configured mode.")] = None,
    pairs: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one setting. May be repeated.")
    ] = None,
) -> None:
    context.obj = Options.parse(home, mode, pairs or [])


for module in (stack, safety, services, history, listing, wire, environment, backup):
    module.register(app)
for name, module in (("plugin", plugin), ("alert", alerts), ("config", config), ("db", database), ("bus", bus)):
    app.add_typer(module.app, name=name)
