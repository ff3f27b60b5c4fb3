"""`tradebot plugin new|list|check|enable|disable|logs`: strategies from the first line to live."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from common_models import ControlAction, PluginMode, PluginState
from runtime.settings import Mode, Settings
from tradebot.commands.context import AsJson, print_json, print_rows, run, say, settings_of
from tradebot.exit_codes import CommandError, ExitCode

if TYPE_CHECKING:
    from common_models import PluginStatus
    from tradebot.plugin_overview import PluginRow

app = typer.Typer(help="Strategies: write, look at, check and switch them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The plugin's name, as `tradebot plugin list` prints it.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds to wait for the bot to show the effect.", min=1, max=600)]
Template = Literal["minimal", "candles", "ticks", "cross", "book"]
STEER_TIMEOUT_S = 20.0


@app.command()
def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Lower case letters, digits and underscores.")],
    template: Annotated[Template, typer.Option(help="What to start from.")] = "minimal",
    folder: Annotated[Path | None, typer.Option(help="A folder below the plugin folder, such as plugins/mine.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a working strategy and its test.

    A running bot takes the file up within seconds, in shadow: its signals are recorded and trade nothing.
    """
    from tradebot.new_plugin import write_plugin
    from tradebot.own_command import own_command, own_program, short_path

    settings = settings_of(context)
    written = write_plugin(settings.bot.plugins_dir, name, template, folder)
    tradebot, test = own_command(settings), short_path(written.test)
    commands = [f"{own_program('pytest')} {test}", f"{tradebot} plugin check {name}", f"{tradebot} plugin list"]
    if as_json:
        print_json({"file": str(written.plugin), "test": str(written.test), "next": commands})
        return
    for path in (written.plugin, written.test, *([written.package] if written.package else [])):
        say(f"wrote {short_path(path)}")
    what = ("its test", "what the bot will make of it", "how it does; a running bot has it in shadow by now")
    say("next:")
    width = max(map(len, commands))
    for command, words in zip(commands, what, strict=True):
        say(f"  {command:<{width}}  # {words}")


@app.command("list")
def list_plugins(context: typer.Context, as_json: AsJson = False) -> None:
    """Print every plugin, its mode, who chose that, and how it does.

    Without a running bot, what the files and the configuration say.
    """
    from tradebot.plugin_overview import overview

    settings = settings_of(context)
    rows = overview(settings, _statuses(settings))
    if as_json:
        print_json(rows)
    else:
        print_rows(_cells(rows), as_json=False, empty=f"no plugins in {settings.bot.plugins_dir}")


def _statuses(settings: Settings) -> dict[str, PluginStatus]:
    """What a running bot tells; nothing when none runs."""
    from bus.connection import Connection
    from bus.errors import BusUnavailable
    from runtime.endpoints import NotRunning, bus_url
    from tradebot.plugin_overview import bot_runs, newest_statuses

    async def read() -> dict[str, PluginStatus]:
        connection = await Connection.open(bus_url(settings), name="tradebot-plugin")
        try:
            return await newest_statuses(connection, settings)
        finally:
            connection.close()

    try:
        statuses = run(read(), passing=(NotRunning, BusUnavailable))
    except (NotRunning, BusUnavailable):
        return {}
    return statuses if bot_runs(settings, statuses.values()) else {}


def _cells(rows: Sequence[PluginRow]) -> list[dict[str, object]]:
    """Rows for people: times have their unit, and what is known of none is left out."""
    rows_of_cells = [_cells_of(row) for row in rows]
    known = {name for cells in rows_of_cells for name, value in cells.items() if value not in {None, ""}}
    return [{name: value for name, value in cells.items() if name in known} for cells in rows_of_cells]


def _cells_of(row: PluginRow) -> dict[str, object]:
    return {
        "name": row.name,
        "mode": row.mode,
        "by": row.by,
        "state": row.state,
        "version": row.version,
        "signals": row.signals,
        "errors": row.errors,
        "p99": None if row.p99_us is None else f"{row.p99_us} us" if row.p99_us < 10_000 else f"{row.p99_us // 1000} ms",
        "mb": row.memory_mb,
        "file": row.file,
        "reason": row.reason or row.heartbeat,
    }


@app.command()
def check(
    context: typer.Context,
    wanted: Annotated[list[str] | None, typer.Argument(metavar="FILE|NAME", hidden=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Look plugins over as the bot does, without a bot.

    Each FILE (or plugin by NAME; all when none) is loaded in a confined process and shown made-up events.
    Exit codes: 1 when one cannot run, 2 no such file.
    """
    from tradebot.plugin_check import check as check_file
    from tradebot.plugin_check import find, told

    settings = settings_of(context)
    found = [run(check_file(settings, path)) for path in find(settings, wanted or [])]
    if as_json:
        print_json([checked.as_data() for checked in found])
    else:
        for number, checked in enumerate(found):
            say("\n".join([*([""] if number else []), *told(settings, checked)]))
    if not all(checked.report.usable for checked in found):
        raise typer.Exit(ExitCode.ERROR)


@app.command()
def enable(
    context: typer.Context,
    name: Name,
    live: Annotated[bool, typer.Option("--live", help="Let it trade.")] = False,
    shadow: Annotated[bool, typer.Option("--shadow", help="Record its signals, trade none of them.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "by hand",
    timeout_s: Timeout = STEER_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Run a plugin, as configured or live or in shadow.

    It lifts a quarantine, and the bot keeps your word over restarts.
    Exit codes: 1 it cannot run, 2 no such plugin, 3 the bot does not run, 5 time-out.
    """
    from tradebot.plugin_overview import chosen_mode

    settings = settings_of(context)
    if live and shadow:
        raise CommandError("--live or --shadow, not both", ExitCode.NOT_FOUND)
    action = ControlAction.PROMOTE if live else ControlAction.SHADOW if shadow else ControlAction.ENABLE
    if action is ControlAction.ENABLE and chosen_mode(settings, name)[0] is PluginMode.OFF:
        text = f"the configuration says that {name} is off: say --shadow or --live, or change bot.plugins.{name}.mode"
        raise CommandError(text, ExitCode.NOT_FOUND)
    status = _steer(settings, name, action, reason, timeout_s)
    if as_json:
        print_json(status)
        return
    say(_told(status))
    if status.mode is PluginMode.LIVE:
        say(_what_live_means(settings, name))


@app.command()
def disable(
    context: typer.Context,
    name: Name,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "by hand",
    timeout_s: Timeout = STEER_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Stop a plugin until `plugin enable`.

    What it said counts no more. Exit codes: 2 no such plugin, 3 the bot does not run, 5 time-out.
    """
    status = _steer(settings_of(context), name, ControlAction.DISABLE, reason, timeout_s)
    print_json(status) if as_json else say(_told(status))


def _steer(settings: Settings, name: str, action: ControlAction, reason: str, timeout_s: float) -> PluginStatus:
    from tradebot.plugin_steering import steer

    return run(steer(settings, name, action, reason, timeout_s))


def _told(status: PluginStatus) -> str:
    """One sentence on how a plugin stands."""
    mode = {PluginMode.LIVE: ", live", PluginMode.SHADOW: ", in shadow"}.get(status.mode, "")
    version = f" (version {status.version})" if status.version else ""
    why = f": {status.reason}" if status.reason else ""
    if status.state is PluginState.WARMING and status.waiting_for:
        why = f": waiting for candles of {', '.join(status.waiting_for)}"
    return f"{status.name} is {status.state.value}{mode}{version}{why}"


def _what_live_means(settings: Settings, name: str) -> str:
    money = {Mode.SIMULATION: "simulated money", Mode.PAPER: "paper money", Mode.LIVE: "REAL money"}[settings.mode]
    return (
        f"live means: what {name} says counts with the other live plugins, and what they agree on is ordered, with {money}\n"
        f"`plugin enable {name} --shadow` takes that back; positions that are open then are left to the bot's rules for exits"
    )


@app.command()
def logs(
    context: typer.Context,
    name: Name,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=100_000, help="First the newest N lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes; Ctrl-C ends it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what a plugin printed and logged."""
    from tradebot.plugin_files import plugin_files
    from tradebot.tailed_file import followed, last_lines

    settings = settings_of(context)
    path = settings.home / "logs" / "plugins" / f"{name}.log"
    if "/" in name or not (path.exists() or name in {file.name for file in plugin_files(settings.bot.plugins_dir)}):
        raise CommandError(f"no plugin named {name!r}: `tradebot plugin list` prints them", ExitCode.NOT_FOUND)

    if not path.exists() and not follow:
        if not as_json:
            say(f"{name} has printed and logged nothing yet")
        return
    coming = followed(path) if follow else iter(())
    for line in itertools.chain(last_lines(path, lines), coming):
        print_json({"line": line}) if as_json else say(line)
