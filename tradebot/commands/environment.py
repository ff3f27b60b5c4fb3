"""`tradebot env`: what docker compose needs beside the repository."""

from __future__ import annotations

from pathlib import Path

import typer

from tradebot.commands.context import AsJson, print_json, say, settings_of
from tradebot.exit_codes import CommandError


def register(app: typer.Typer) -> None:
    app.command()(env)


def env(context: typer.Context, as_json: AsJson = False) -> None:
    """Make .env and secrets/ for docker compose, with random passwords; what is there already stays.

    Files that follow from the passwords (addresses, the users of the bus) are written anew when they differ.
    """
    from tradebot.deployment_secrets import DeploymentError, Outcome, prepare

    try:
        done = prepare(Path.cwd(), settings_of(context))
    except (DeploymentError, OSError) as error:
        raise CommandError(str(error)) from None
    if as_json:
        print_json([{"path": file.path, "outcome": file.outcome.value} for file in done])
        return
    for outcome in (Outcome.MADE, Outcome.RENEWED):
        for file in done:
            if file.outcome is outcome:
                say(f"{outcome.value:<8} {file.path}")
    kept = sum(file.outcome is Outcome.KEPT for file in done)
    say(f"{len(done)} files for docker compose, {kept} of them as they were; `docker compose up -d` starts the system")
