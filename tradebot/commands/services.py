"""`tradebot connector|simulator|bot|recorder|alerts|traces`: one process each, in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from tradebot import service_commands
from tradebot.commands.context import settings_of

Name = Annotated[str, typer.Argument(help="An exchange of config/exchanges.yaml, such as binance.")]


def register(app: typer.Typer) -> None:
    app.command()(connector)
    app.command()(simulator)
    app.command()(bot)
    app.command()(recorder)
    app.command()(alerts)
    app.command()(traces)


def connector(context: typer.Context, name: Name) -> None:
    """Run the connector of one exchange: market data out, orders in."""
    raise typer.Exit(service_commands.run_connector(settings_of(context), name))


def simulator(context: typer.Context, exchange: Name) -> None:
    """Run a local exchange that speaks the protocol of that venue."""
    raise typer.Exit(service_commands.run_simulator(settings_of(context), exchange))


def bot(context: typer.Context) -> None:
    """Run the bot: plugins, signals, decisions, risk, commands."""
    raise typer.Exit(service_commands.run_bot(settings_of(context)))


def recorder(context: typer.Context) -> None:
    """Run the recorder: streams into Postgres, in batches."""
    raise typer.Exit(service_commands.run_recorder(settings_of(context)))


def alerts(context: typer.Context) -> None:
    """Run the alerts process: rules, Telegram, webhooks, Discord, Slack."""
    raise typer.Exit(service_commands.run_alerts(settings_of(context)))


def traces(context: typer.Context) -> None:
    """Send the way of every order to an OpenTelemetry collector (TRADEBOT_TRACES_ENDPOINT)."""
    raise typer.Exit(service_commands.run_traces(settings_of(context)))
