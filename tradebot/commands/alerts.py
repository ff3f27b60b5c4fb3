"""`tradebot alert list|ack|resolve|test|rules`: what is open, and saying something to it (`tradebot alerts` is the process)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.clock import now_ns
from runtime.settings import Settings
from tradebot.commands.context import AsJson, Limit, print_json, print_rows, run, say, settings_of
from tradebot.commands.history import ask, clock
from tradebot.exit_codes import CommandError, ExitCode

if TYPE_CHECKING:
    from alerts.alert_state import AlertState

app = typer.Typer(help="Alerts: list them, acknowledge them, try the channels.", no_args_is_help=True)

Ids = Annotated[list[str], typer.Argument(help="Ids as `list` prints them.")]
LEVELS = ("info", "warning", "error", "critical")


@app.command("list")
def list_alerts(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Print the alerts that are open or acknowledged, the newest first."""
    from alerts.alert_state import AlertState
    from postgres.alert_store import alert_states

    found = ask(settings_of(context), lambda source: alert_states(source, AlertState, limit, resolved=everything))
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "id": state.alert_id,
            "last": clock(state.last_ns),
            "level": state.level.value,
            "phase": state.phase.value,
            "by": state.changed_by,
            "count": state.count,
            "code": state.code,
            "alert": state.title,
        }
        for state in found
    ]
    print_rows(rows, as_json=False, empty="no alerts" if everything else "no open alerts")


@app.command()
def ack(context: typer.Context, ids: Ids, as_json: AsJson = False) -> None:
    """Say that somebody has seen them: they are not said again, louder.

    Exit code 2 when one is not known; the others are acknowledged then.
    """
    _say(settings_of(context), ids, "acknowledged", as_json=as_json)


@app.command()
def resolve(context: typer.Context, ids: Ids, as_json: AsJson = False) -> None:
    """Say that they are over.

    Exit code 2 when one is not known; the others are resolved then.
    """
    _say(settings_of(context), ids, "resolved", as_json=as_json)


@app.command("test")
def send_test(
    context: typer.Context,
    level: Annotated[str, typer.Option(help="info, warning, error or critical.")] = "info",
    text: Annotated[str, typer.Option(help="What it says.")] = "a test alert by hand",
    as_json: AsJson = False,
) -> None:
    """Raise an alert as any process does, to try the channels."""
    from bus.streams import Streams
    from common_models import Alert, AlertLevel
    from tradebot.control_messages import actor, one_publisher

    if level not in LEVELS:
        raise CommandError(f"no level {level!r}; there are {', '.join(LEVELS)}", ExitCode.NOT_FOUND)
    settings = settings_of(context)
    alert = Alert(
        level=AlertLevel(level),
        source=actor(),
        code="TEST",
        text=text,
        ts_event_ns=now_ns(),
        category="system",
        numbers={"subject": str(now_ns())},  # each test is an alert of its own
    )

    async def publish() -> None:
        async with one_publisher(settings) as publisher:
            publisher.put(Streams(settings.mode.value).alerts, alert)

    run(publish())
    if as_json:
        print_json({"raised": "TEST", "level": level})
    else:
        say(f"raised a {level} alert; the health of `tradebot alerts` tells how its channels do")


@app.command()
def rules(context: typer.Context, as_json: AsJson = False) -> None:
    """Check the file of rules and print them; exit code 4 names file and line of every mistake."""
    from alerts.rules.rule_book import load_rules

    settings = settings_of(context)
    rows: list[dict[str, Any]] = []
    for name, rule in load_rules(settings).items():
        event = rule.event or name
        switch = settings.alerts.notify.get(event, rule.notify)
        kind = getattr(rule, "kind", "")
        rows.append({"rule": name, "kind": kind, "level": rule.level or "as raised", "event": event, "notify": switch})
    print_rows(rows, as_json=as_json, empty=f"no rules in {settings.alerts.rules}")


def _say(settings: Settings, ids: list[str], phase: str, *, as_json: bool) -> None:
    """Acknowledge or resolve in the database, from which the alerts process takes it within a second or when it runs again."""
    from tradebot.control_messages import actor

    found = {alert_id: _change(settings, alert_id.strip().lower(), phase, actor()) for alert_id in ids}
    known = [state for state in found.values() if state is not None]
    if as_json:
        print_json(known)
    else:
        for state in known:
            say(f"{state.alert_id} is {state.phase} by {state.changed_by}: {state.title}")
    missing = [alert_id for alert_id, state in found.items() if state is None]
    if missing:
        raise CommandError(f"no alert {', '.join(missing)}; `tradebot alert list --all` shows the ids", ExitCode.NOT_FOUND)


def _change(settings: Settings, alert_id: str, phase: str, who: str) -> AlertState | None:
    from alerts.alert_state import AlertState
    from postgres.alert_store import say as tell

    return ask(settings, lambda connection: tell(connection, AlertState, alert_id, phase, who, now_ns()))
