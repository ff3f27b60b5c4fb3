"""What /health, /plugins, /alerts, /logs, /help and the like answer."""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform

from alerts.alert_state import AlertPhase, AlertState
from alerts.interfaces import AlertDesk
from alerts.telegram import processes
from alerts.telegram.access import Role
from alerts.telegram.answer import Answer, Reader
from alerts.telegram.commands import BY_NAME, COMMANDS, Call, Command, Effect
from alerts.telegram.log_lines import newest_troubles
from alerts.telegram.markup import Line, bold, plain
from alerts.telegram.plugin_list import plugin_statuses
from alerts.telegram.wording import at, lasting
from common_models import AlertLevel, PluginState, PluginStatus
from runtime.settings import Settings

ICONS = {AlertLevel.INFO: "🔹", AlertLevel.WARNING: "⚠️", AlertLevel.ERROR: "❌", AlertLevel.CRITICAL: "🚨"}
PLUGIN_ICONS = {
    PluginState.RUNNING: "🟢",
    PluginState.WARMING: "🟡",
    PluginState.CHECKING: "🟡",
    PluginState.DISABLED: "⚪",
    PluginState.BROKEN: "🔴",
    PluginState.QUARANTINED: "🔴",
}
EFFECTS = {
    Effect.READS: "To look at",
    Effect.NOTES: "Alerts",
    Effect.STOPS: "To stop, at once",
    Effect.LOOSENS: "To go on, with a code",
}
DEFAULT_LOG_LINES = 10
MAX_LOG_LINES = 40
MAX_ALERTS = 30


class SystemAnswers:
    """Answers from the processes, the bus, the log files and the alert desk."""

    def __init__(self, settings: Settings, desk: AlertDesk) -> None:
        self._settings = settings
        self._desk = desk

    @property
    def readers(self) -> dict[str, Reader]:
        """What answers which command."""
        return {
            "health": self.health,
            "plugins": self.plugins,
            "alerts": self.alerts,
            "logs": self.logs,
            "version": self.version,
            "ping": self.ping,
            "help": self.help,
            "start": self.start,
        }

    async def health(self, call: Call) -> Answer:
        """Every process, and what does not work."""
        found = await processes.ask_all(self._settings)
        lines = [bold(f"{sum(process.ready for process in found)} of {len(found)} processes are ready")]
        for process in found:
            if not process.answers:
                lines += plain(f"🔴 {process.name} does not answer")
                continue
            lines += plain(f"{'🟢' if process.ready else '🟡'} {process.name}, up {lasting(process.uptime_s)}")
            details = process.details or {}
            lines += plain(*(f"    {part}: {details[part] or 'not ready'}" for part in process.troubles))
        return Answer(lines)

    async def plugins(self, call: Call) -> Answer:
        """Every plugin with its state, mode and heartbeat."""
        found = await plugin_statuses(self._settings)
        if not found:
            return Answer(plain("the bot has told of no plugin yet"))
        return Answer([line for status in found.values() for line in _plugin(status)])

    async def alerts(self, call: Call) -> Answer:
        """Alerts that are not over, the worst first."""
        found = self._desk.active(MAX_ALERTS)
        if not found:
            return Answer(plain("no open alerts"))
        return Answer([bold(f"{len(found)} open alerts"), *(line for state in found for line in _alert(state))])

    async def logs(self, call: Call) -> Answer:
        """The newest warnings and errors."""
        count = call.number(DEFAULT_LOG_LINES, MAX_LOG_LINES)
        found = await asyncio.to_thread(newest_troubles, self._settings.home / "logs", count)
        return Answer(plain(*found) if found else plain("no warnings and no errors in the logs"))

    async def version(self, call: Call) -> Answer:
        """What runs here."""
        version = importlib.metadata.version("tradebot")
        mode, python = self._settings.mode.value, platform.python_version()
        return Answer(plain(f"tradebot {version}, {mode} mode, Python {python} on {platform.node()}"))

    async def ping(self, call: Call) -> Answer:
        """A sign of life."""
        return Answer(plain("pong"))

    async def start(self, call: Call) -> Answer:
        """What a new chat begins with."""
        greeting = f"This is tradebot in {self._settings.mode.value} mode. You are on its list; /help names what you can say."
        return Answer(plain(greeting, "This command starts nothing: /resume and /resume_trading do."))

    async def help(self, call: Call) -> Answer:
        """The table of commands, or one of them with its other names."""
        command = BY_NAME.get(call.arguments[0].lstrip("/").lower()) if call.arguments else None
        if command is not None:
            names = ", ".join(f"/{alias}" for alias in command.aliases)
            also = plain(f"also: {names}") if names else []
            return Answer([*plain(_usage(command), f"for {command.role.label}s; {EFFECTS[command.effect].lower()}"), *also])
        return Answer(help_lines())


def help_lines() -> list[Line]:
    """Every command by what it does, with the role that it takes."""
    lines: list[Line] = []
    for effect, title in EFFECTS.items():
        lines.append(bold(title))
        lines += plain(*(_usage(command) for command in COMMANDS if command.effect is effect))
    return lines


def _usage(command: Command) -> str:
    role = "" if command.role is Role.VIEWER else f" ({command.role.label})"
    return f"/{command.name}{' ' if command.usage else ''}{command.usage} - {command.summary}{role}"


def _plugin(status: PluginStatus) -> list[Line]:
    head = f"{PLUGIN_ICONS.get(status.state, '·')} {status.name}: {status.state}, {status.mode}"
    facts = [f"version {status.version[:12]}"] if status.version else []
    facts += [f"{status.events:,} events, {status.signals:,} signals, {status.errors:,} errors"]
    if status.waiting_for:
        facts.append(f"waits for candles of {', '.join(status.waiting_for[:5])}")
    lines = [Line(head), Line("    " + ", ".join(facts))]
    if status.heartbeat:
        lines.append(Line(f"    {status.heartbeat}"))
    if status.reason:
        lines.append(Line(f"    {status.reason}"))
    return lines


def _alert(state: AlertState) -> list[Line]:
    seen = f", seen by {state.changed_by}" if state.phase is AlertPhase.ACKNOWLEDGED else ""
    times = f", {state.count} times, last {at(state.last_ns)}" if state.count > 1 else ""
    lines = plain(f"{ICONS[state.level]} {state.title}", f"    {state.code}, since {at(state.first_ns)} UTC{times}{seen}")
    seen_link = "" if seen else f"/ack_{state.alert_id} "
    return [*lines, Line(f"    {seen_link}/resolve_{state.alert_id}")]
