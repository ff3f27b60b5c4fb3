"""The commands that are processes of a stack. Each imports its own package only, so a connector pays for a connector."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from runtime.settings import Settings
from runtime.settings_loader import load_settings
from tradebot.exit_codes import CommandError, ExitCode


def service_command(arguments: Sequence[str]) -> Callable[[], int] | None:
    """The service that these command-line arguments ask for; None for every other command, and for those with options."""
    match arguments:
        case ["connector", name] if not name.startswith("-"):
            return lambda: run_connector(load_settings(), name)
        case ["simulator", name] if not name.startswith("-"):
            return lambda: run_simulator(load_settings(), name)
        case ["bot" | "recorder" | "alerts" | "traces" as name]:
            return lambda: ALONE[name](load_settings())
        case _:
            return None


def _needs_exchange(run: Callable[[Settings, str], int]) -> Callable[[Settings, str], int]:
    """Refuse a name that the configuration does not know."""

    @functools.wraps(run)
    def checked(settings: Settings, name: str) -> int:
        if name not in settings.exchanges:
            known = ", ".join(sorted(settings.exchanges)) or "none"
            text = f"no exchange named {name!r} in config/exchanges.yaml; configured: {known}"
            raise CommandError(text, ExitCode.NOT_FOUND)
        return run(settings, name)

    return checked


@_needs_exchange
def run_connector(settings: Settings, name: str) -> int:
    from connectors.service import run

    return run(settings, name)


@_needs_exchange
def run_simulator(settings: Settings, name: str) -> int:
    from simulator.service import run

    return run(settings, name)


def run_bot(settings: Settings) -> int:
    from bot.event_loop import run

    return run(settings)


def run_recorder(settings: Settings) -> int:
    from postgres.recorder import run

    return run(settings)


def run_alerts(settings: Settings) -> int:
    from alerts.service import run

    return run(settings)


def run_traces(settings: Settings) -> int:
    from tradebot.trace_export import run

    return run(settings)


ALONE = {"bot": run_bot, "recorder": run_recorder, "alerts": run_alerts, "traces": run_traces}
"""Services of which a stack has one each."""
