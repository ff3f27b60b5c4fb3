"""A word to the bot about one plugin, and waiting until the bot has done it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from bus.connection import Connection
from bus.streams import Stream, Streams
from common_models import Control, ControlAction, PluginMode, PluginState, PluginStatus
from runtime.endpoints import bus_url
from runtime.settings import Settings
from tradebot.bus_inspection import entries_after, newest, readable
from tradebot.control_messages import send_control
from tradebot.exit_codes import CommandError, ExitCode
from tradebot.plugin_files import plugin_files
from tradebot.plugin_overview import RUNNING, bot_runs, chosen_mode, newest_statuses

LOOK_MS = 500
READ = 500
SECOND_NS = 1_000_000_000

FAILED = (PluginState.BROKEN, PluginState.QUARANTINED, PluginState.REMOVED)
ASKED = {
    ControlAction.SHADOW: PluginMode.SHADOW,
    ControlAction.PROMOTE: PluginMode.LIVE,
    ControlAction.DISABLE: PluginMode.OFF,
}


async def steer(settings: Settings, name: str, action: ControlAction, reason: str, timeout_s: float) -> PluginStatus:
    """Send the word and return the status that shows its effect.

    Raises CommandError: no such plugin, no bot, the plugin cannot run (with the bot's reason), or nothing was seen in time.
    """
    stream = Streams(settings.mode.value).plugins
    connection = await Connection.open(bus_url(settings), name="tradebot-plugin")
    try:
        before = await _status_before(connection, settings, name)
        last = await newest(connection, stream, 1)
        control = await send_control(settings, action, reason, name)
        wanted = ASKED.get(action) or chosen_mode(settings, name)[0]
        async with asyncio.timeout(timeout_s):
            async for status in _statuses_after(connection, stream, last[0].entry_id if last else "0-0"):
                this = status.name == name and (before is None or status.path == before.path)
                if this and _settled(status, control, wanted, before):
                    return status
    except TimeoutError:
        pass
    finally:
        connection.close()
    text = f"told, but the bot has not shown the effect within {timeout_s:.0f} s: `tradebot plugin list` shows what it makes of it"
    raise CommandError(text, ExitCode.TIMEOUT)


async def _status_before(connection: Connection, settings: Settings, name: str) -> PluginStatus | None:
    """How the plugin is before the word; raises CommandError when there is no such plugin, or no bot."""
    statuses = await newest_statuses(connection, settings)
    known = {file.name for file in plugin_files(settings.bot.plugins_dir)} | {status.name for status in statuses.values()}
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise CommandError(f"no plugin named {name!r} in {settings.bot.plugins_dir}; there are: {names}", ExitCode.NOT_FOUND)
    if not bot_runs(settings, statuses.values()):
        text = f"the bot does not run: start it with `tradebot up`, or set bot.plugins.{name}.mode in config/tradebot.yaml"
        raise CommandError(text, ExitCode.NOT_RUNNING)
    mine = [status for status in statuses.values() if status.name == name]
    return max(mine, key=lambda status: status.state in RUNNING, default=None)  # the others only claim its name


async def _statuses_after(connection: Connection, stream: Stream, after: str) -> AsyncIterator[PluginStatus]:
    """What the bot tells of plugins from this entry on, for ever."""
    while True:
        entries = await entries_after(connection, {stream.name: after}, READ, LOOK_MS)
        for message in readable(entries):
            if isinstance(message, PluginStatus):
                yield message
        after = entries[-1].entry_id if entries else after


def _settled(status: PluginStatus, control: Control, wanted: PluginMode, before: PluginStatus | None) -> bool:
    """Whether this status shows what became of the word; raises CommandError when the plugin cannot do as told."""
    if status.ts_event_ns < control.created_at_ns or status.state is PluginState.CHECKING:
        return False
    done = status.state is PluginState.DISABLED if wanted is PluginMode.OFF else status.state in RUNNING and status.mode is wanted
    if done or _old_news(status, control, before):
        return done
    if wanted is PluginMode.OFF:
        return status.state not in RUNNING
    if status.state in FAILED:
        raise CommandError(f"{status.name} is {status.state.value}: {status.reason}")
    return control.action is ControlAction.ENABLE  # as the bot's configuration says, which may be older than ours


def _old_news(status: PluginStatus, control: Control, before: PluginStatus | None) -> bool:
    """Whether the bot may have said this before it heard of the word: the same as before, in the first second."""
    if before is None or status.ts_event_ns >= control.created_at_ns + SECOND_NS:
        return False
    return (before.state, before.mode, before.version, before.reason) == (status.state, status.mode, status.version, status.reason)
