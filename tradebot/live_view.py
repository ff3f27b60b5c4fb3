"""The screen of `tradebot up`: a calm picture of the stack, repainted about once a second; plain lines without a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from datetime import datetime

from rich.console import Console
from rich.live import Live

from runtime.clock import monotonic_s
from runtime.settings import Settings
from tradebot.own_command import own_command
from tradebot.screen import Screen, hints, one_line, story_line
from tradebot.stack_numbers import StackWatch
from tradebot.supervisor import Supervisor

STEADY_S = 1.0
STARTING_S = 0.25
SUMMARY_EVERY_S = 30.0


async def show(settings: Settings, supervisor: Supervisor, done: asyncio.Event, *, plain: bool = False) -> None:
    """Show the stack until `done`: on a terminal as a full screen, elsewhere (or when `plain`) as a line per happening."""
    if sys.stdout.isatty() and not plain:
        await _show_screen(settings, supervisor, done)
    else:
        await _show_lines(settings, supervisor, done)


async def _show_screen(settings: Settings, supervisor: Supervisor, done: asyncio.Event) -> None:
    console = Console()
    watch = StackWatch(settings, supervisor.processes)
    screen = Screen(settings, supervisor, watch.numbers)
    try:
        # The alternate screen is repainted in place, so nothing flickers and the shell's own text comes back at the end.
        with Live(
            console=console, screen=True, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        ) as live:
            while not done.is_set():
                await watch.refresh()
                live.update(screen.render(console.width, console.height), refresh=True)
                await _pause(done, STEADY_S if supervisor.once_ready else STARTING_S)
    except OSError:
        await done.wait()  # the terminal is gone; the stack is being stopped by its hang-up
    finally:
        watch.close()
    with contextlib.suppress(OSError):
        for line in list(supervisor.story.lines)[-5:]:
            console.print(story_line(line), soft_wrap=True)


async def _show_lines(settings: Settings, supervisor: Supervisor, done: asyncio.Event) -> None:
    def write(text: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads any more: no reason to stop trading
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    supervisor.story.listener = lambda line: write(story_line(line).plain)
    watch = StackWatch(settings, supervisor.processes)
    told_s, said_where = monotonic_s(), False
    try:
        while not done.is_set():
            await _pause(done, STEADY_S)
            if supervisor.once_ready and not said_where:
                said_where = True
                for hint in hints(settings):
                    write(f"         {hint}")
            if monotonic_s() - told_s >= SUMMARY_EVERY_S and not supervisor.stop.is_set():
                told_s = monotonic_s()
                await watch.refresh()
                write(f"{datetime.now().astimezone():%H:%M:%S} {one_line(watch.numbers, own_command(settings))}")
            elif supervisor.once_ready:
                await watch.refresh()
    finally:
        supervisor.story.listener = None
        watch.close()


async def _pause(done: asyncio.Event, wait_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), wait_s)
