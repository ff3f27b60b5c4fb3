"""What is known of every plugin: its file, what configuration and operators say, and what the bot tells of it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from bot.isolation.source import PluginRefused, read_source
from bot.plugin_registry import PluginRegistry, RegistryError, Word
from bus.connection import Connection
from bus.streams import Streams
from common_models import PluginMode, PluginState, PluginStatus
from runtime.clock import now_ns
from runtime.settings import PluginSettings, Settings
from tradebot.bus_inspection import entries_after, newest, readable
from tradebot.exit_codes import CommandError
from tradebot.plugin_files import PluginFile, plugin_files
from tradebot.process_lock import ProcessLock

FRESH_NS = 30_000_000_000
"""The bot tells of each plugin every ten seconds: what it has not told for so long holds no more."""
STATUSES_READ = 2000
RUNNING = (PluginState.RUNNING, PluginState.WARMING)
NO_BOT, NOT_SEEN = "not running", "not seen yet"


class PluginRow(msgspec.Struct, kw_only=True):
    """One plugin. `by` is who chose the mode: the configuration, an operator, or nobody (the default).

    `state` is a PluginState, "not running" when no bot runs, or "not seen yet" when one has not told of the file. Counts are since
    the version started; `p99_us` is the slowest hundredth of its callbacks in microseconds.
    """

    name: str
    file: str
    mode: str
    by: str
    state: str
    version: str = ""
    signals: int | None = None
    errors: int | None = None
    p99_us: int | None = None
    memory_mb: float | None = None
    heartbeat: str = ""
    reason: str = ""


async def newest_statuses(connection: Connection, settings: Settings) -> dict[str, PluginStatus]:
    """The newest status of each file that the bot told of in its last half minute, by path: two files may claim one name."""
    stream = Streams(settings.mode.value).plugins
    last = await newest(connection, stream, 1)
    if not last:
        return {}
    since_ms = max(0, last[0].position[0] - FRESH_NS // 1_000_000)
    entries = await entries_after(connection, {stream.name: f"{since_ms}-0"}, STATUSES_READ)
    return {message.path: message for message in readable(entries) if isinstance(message, PluginStatus)}


def told_lately(statuses: Iterable[PluginStatus]) -> bool:
    """Whether a bot, here or elsewhere, tells of its plugins on this bus."""
    return now_ns() - max((status.ts_event_ns for status in statuses), default=0) < FRESH_NS


def bot_runs(settings: Settings, statuses: Iterable[PluginStatus]) -> bool:
    """Whether a bot tells of its plugins, or one of this home lives and is about to."""
    return told_lately(statuses) or ProcessLock(settings.run_dir, "bot").held


def overview(settings: Settings, statuses: dict[str, PluginStatus]) -> list[PluginRow]:
    """One row for each file and for each one that the bot tells of, in order of their names; no statuses: no bot runs."""
    registry = _registry(settings)
    files = {file.path: file.name for file in plugin_files(settings.bot.plugins_dir)}
    rows = [_row_told(settings, registry, status) for status in statuses.values()]
    state = NOT_SEEN if statuses else NO_BOT
    rows += [_row_of_file(settings, registry, PluginFile(*file), state) for file in files.items() if file[0] not in statuses]
    return sorted(rows, key=lambda row: (row.name, row.file))


def chosen_mode(settings: Settings, name: str, word: Word | None = None) -> tuple[PluginMode, str]:
    """The mode that a plugin shall run in, and who chose it."""
    if word is not None:
        return word.mode, f"operator {word.actor}"
    configured = settings.bot.plugins.get(name)
    return PluginMode((configured or PluginSettings()).mode), "default" if configured is None else "configuration"


def _registry(settings: Settings) -> PluginRegistry:
    registry = PluginRegistry(settings.home / "bot" / settings.mode.value, settings.home / "bot" / "plugin_versions")
    try:
        registry.open()
    except (RegistryError, OSError) as error:
        raise CommandError(str(error)) from None
    return registry


def _row_of_file(settings: Settings, registry: PluginRegistry, file: PluginFile, state: str) -> PluginRow:
    """What is known of a file of which no bot tells: its version, and why it would not run."""
    mode, by = chosen_mode(settings, file.name, registry.word(file.name))
    row = PluginRow(name=file.name, file=file.path, mode=mode.value, by=by, state=state)
    folder = settings.bot.plugins_dir
    try:
        row.version = read_source(folder / file.path, folder).version
    except (PluginRefused, OSError) as error:
        row.reason = str(error)
        return row
    quarantined = registry.quarantined(row.version)
    row.reason = f"quarantined: {quarantined}" if quarantined else ""
    return row


def _row_told(settings: Settings, registry: PluginRegistry, status: PluginStatus) -> PluginRow:
    mode, by = chosen_mode(settings, status.name, registry.word(status.name))
    if status.state in RUNNING and status.mode is not mode:
        mode, by = status.mode, f"{by}, changed since the bot read it"
    return PluginRow(
        name=status.name,
        file=status.path,
        mode=mode.value,
        by=by,
        state=status.state.value,
        version=status.version,
        signals=status.signals,
        errors=status.errors,
        p99_us=status.call_p99_us or None,  # 0: not measured yet; so for the memory
        memory_mb=round(status.memory_bytes / 1e6, 1) or None,
        heartbeat=status.heartbeat,
        reason=status.reason or (f"waiting for candles of {', '.join(status.waiting_for)}" if status.waiting_for else ""),
    )
