"""`tradebot up|down|status|doctor`: the whole system on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from runtime.settings import LogSettings, Mode, Settings
from tradebot.commands.context import AsJson, options_of, print_json, print_rows, say, settings_of
from tradebot.exit_codes import CommandError, ExitCode

POLL_S = 0.05


def register(app: typer.Typer) -> None:
    for command in (up, down, status, doctor):
        app.command()(command)


def up(
    context: typer.Context,
    plain: Annotated[bool, typer.Option("--plain", help="Print a line per happening instead of the live view.")] = False,
) -> None:
    """Start everything and show it; Ctrl-C stops it all.

    What is started is what the configuration enables.
    """
    settings = settings_of(context)
    if settings.mode is not Mode.SIMULATION:
        reason = f"mode {settings.mode.value} needs arming, which this version does not have: use simulation"
        raise CommandError(reason, ExitCode.CONFIG)
    from tradebot.managed_process import StartFailed

    os.umask(0o077)
    try:
        asyncio.run(_up(settings, options_of(context).environment, plain=plain))
    except StartFailed as error:
        raise CommandError(str(error), error.code) from None


async def _up(settings: Settings, overrides: dict[str, str], *, plain: bool) -> None:
    from tradebot.live_view import show
    from tradebot.private_files import private_directory
    from tradebot.process_plan import plan
    from tradebot.story import Story
    from tradebot.supervisor import Supervisor

    private_directory(settings.home)
    _log_to_file(settings.log, settings.home / "logs")
    supervisor = Supervisor(settings, plan(settings, {**os.environ, **overrides}), Story())
    done = asyncio.Event()
    view = asyncio.create_task(show(settings, supervisor, done, plain=plain), name="view")
    view.add_done_callback(lambda _: supervisor.stop.set())  # a broken view is a reason to stop in order, not to run unseen
    try:
        await supervisor.run()
    finally:
        done.set()
        await view


def _log_to_file(settings: LogSettings, directory: Path) -> None:
    """The supervisor's own log; its console is the view."""
    import logging

    from runtime.logs import setup_logging

    setup_logging("supervisor", settings, directory)
    root = logging.getLogger()
    for handler in list(root.handlers):
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)


def down(
    context: typer.Context,
    timeout_s: Annotated[float, typer.Option(help="Seconds to wait for everything to finish.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Stop everything in order, and wait until nothing is left."""
    from tradebot.orphans import SUPERVISOR, end_orphans, living
    from tradebot.process_lock import ProcessLock
    from tradebot.story import Story

    settings = settings_of(context)
    lock = ProcessLock(settings.run_dir, SUPERVISOR)
    holder = lock.holder()
    if holder is not None:
        holder.send_signal(signal.SIGTERM)
        _wait_until_free(lock, timeout_s)
    elif not living(settings.run_dir):
        raise CommandError(f"nothing runs in {settings.home}", ExitCode.NOT_RUNNING)
    else:
        story = Story(listener=lambda line: typer.echo(line.text, err=True))
        stubborn = asyncio.run(end_orphans(settings.run_dir, settings.supervisor.stop_grace_s, story))
        if stubborn:
            raise CommandError(f"could not be ended: {', '.join(stubborn)}")
    print_json({"stopped": True}) if as_json else say("stopped")


def _wait_until_free(lock: Any, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while lock.held:
        if time.monotonic() > deadline_s:
            raise CommandError(f"still stopping after {timeout_s:.0f} s: `tradebot status` shows what is left", ExitCode.TIMEOUT)
        time.sleep(POLL_S)


def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Print the processes; exit code 3 when nothing runs."""
    from tradebot.orphans import SUPERVISOR, living
    from tradebot.process_lock import ProcessLock
    from tradebot.supervisor import STATE_FILE

    settings = settings_of(context)
    supervisor = ProcessLock(settings.run_dir, SUPERVISOR).holder()
    if supervisor is not None:
        rows = _reported(settings.run_dir / STATE_FILE, supervisor.create_time())
        print_rows(rows, as_json=as_json, empty=f"starting (supervisor {supervisor.pid})")
        return
    orphans = [(lock.name, lock.holder()) for lock in living(settings.run_dir)]
    rows = [_row(name, "orphan", process.pid if process else None) for name, process in orphans]
    if not rows:
        if as_json:
            print_json([])
        raise CommandError(f"nothing runs in {settings.home}: start it with `tradebot up`", ExitCode.NOT_RUNNING)
    print_rows(rows, as_json=as_json, empty="")
    raise CommandError("these outlived their supervisor: `tradebot up` or `tradebot down` ends them in order")


def _reported(file: Path, since_s: float) -> list[dict[str, Any]]:
    """What the supervisor that started at `since_s` last wrote, with the memory of now; a file of an earlier one says nothing."""
    try:
        if file.stat().st_mtime < since_s:
            return []
        state = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    told = ("name", "state", "pid", "port", "restarts", "detail")
    return [_row(**{key: row[key] for key in told}) for row in state["processes"]]


def _row(
    name: str,
    state: str,
    pid: int | None,
    port: int | None = None,
    restarts: int | None = None,
    detail: str = "",
    last_end: str = "",
) -> dict[str, Any]:
    memory_mb = None
    if pid is not None:
        try:
            memory_mb = round(psutil.Process(pid).memory_info().rss / 1_000_000)
        except psutil.Error:
            memory_mb = None
    return {
        "process": name,
        "state": state,
        "pid": pid,
        "port": port,
        "restarts": restarts,
        "memory_mb": memory_mb,
        "detail": detail or (f"last time {last_end}" if last_end else ""),
    }


def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Check this machine and this stack, and give advice.

    Exit code 1 when something is wrong.
    """
    from tradebot.checkup import examine

    findings = asyncio.run(examine(lambda: settings_of(context)))
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            mark = {True: "✔", False: "✘", None: "·"}[finding.ok]
            say(f"{mark} {finding.name:<14} {finding.text}" + (f"\n  {'':<14} → {finding.advice}" if finding.advice else ""))
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(ExitCode.ERROR)
