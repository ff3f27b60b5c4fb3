"""Every command, what it does and who may give it: the one table behind /help, the menu, the documentation and the checks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from alerts.telegram.access import Role


class Effect(StrEnum):
    """What a command does, and so how it is guarded."""

    READS = "reads"
    NOTES = "notes"  # says something about an alert; moves no money
    STOPS = "stops"  # takes risk away: carried out at once, however old the message is
    LOOSENS = "loosens"  # lets trade: never when the message is old, and only with a one-time code


@dataclass(frozen=True, slots=True)
class Command:
    """One command with the names under which users of other bots know it. `usage` are its arguments."""

    name: str
    effect: Effect
    role: Role
    summary: str
    usage: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A command as somebody gave it."""

    command: Command
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((f"/{self.command.name}", *self.arguments))

    def number(self, default: int, most: int) -> int:
        """The first argument as a count from 1 to `most`; the default when there is none."""
        if self.arguments and self.arguments[0].isdecimal() and len(self.arguments[0]) < 6:
            return max(1, min(most, int(self.arguments[0])))
        return default


_READS, _NOTES, _STOPS, _LOOSENS = Effect.READS, Effect.NOTES, Effect.STOPS, Effect.LOOSENS
_VIEWER, _TRADER, _ADMIN = Role.VIEWER, Role.TRADER, Role.ADMIN

COMMANDS = (
    Command("status", _READS, _VIEWER, "mode, emergency stop, open positions", "[table]"),
    Command("profit", _READS, _VIEWER, "profit of closed trades, of the last n days when given", "[n]", ("pb", "profitability")),
    Command("daily", _READS, _VIEWER, "profit by day, the last n", "[n]"),
    Command("weekly", _READS, _VIEWER, "profit by week, the last n", "[n]"),
    Command("monthly", _READS, _VIEWER, "profit by month, the last n", "[n]"),
    Command("performance", _READS, _VIEWER, "profit by symbol and by strategy"),
    Command("trades", _READS, _VIEWER, "the last n closed trades", "[n]", ("th", "trades_history")),
    Command("fills", _READS, _VIEWER, "the last n executions of our orders", "[n]"),
    Command("orders", _READS, _VIEWER, "orders that may still fill", "", ("oo", "open_orders")),
    Command("balance", _READS, _VIEWER, "what every account holds", "", ("portfolio", "pf")),
    Command("count", _READS, _VIEWER, "open positions and orders, and how many may be open"),
    Command("chart", _READS, _VIEWER, "the profit as a picture, or a market with its entries and exits", "[SYMBOL]", ("graph",)),
    Command("plugins", _READS, _VIEWER, "the plugins and how they do", "", ("strategies",)),
    Command("signals", _READS, _VIEWER, "the last n opinions of the plugins", "[n]"),
    Command("alerts", _READS, _VIEWER, "alerts that are not over"),
    Command("health", _READS, _VIEWER, "every process and what troubles it"),
    Command("logs", _READS, _ADMIN, "the last n warnings and errors of all processes", "[n]"),
    Command("version", _READS, _VIEWER, "what runs here", "", ("v",)),
    Command("ping", _READS, _VIEWER, "whether I am there"),
    Command("help", _READS, _VIEWER, "this list", "[COMMAND]", ("h",)),
    Command("start", _READS, _VIEWER, "a greeting; it starts nothing"),
    Command("ack", _NOTES, _TRADER, "you have seen an alert: it escalates no more", "ID"),
    Command("resolve", _NOTES, _TRADER, "an alert is over", "ID"),
    Command("stop", _STOPS, _TRADER, "emergency stop: nothing that adds risk is sent", "", ("halt", "panic")),
    Command("kill", _STOPS, _TRADER, "emergency stop, and cancel every open order"),
    Command("pause", _STOPS, _TRADER, "no new entries; exits go on", "", ("stopentry", "stopbuy")),
    Command("disable", _STOPS, _TRADER, "switch a plugin off", "NAME"),
    Command("shadow", _STOPS, _TRADER, "run a plugin without trading its signals", "NAME"),
    Command("resume", _LOOSENS, _TRADER, "entries again, after /pause", "", ("continue", "startentry")),
    Command("resume_trading", _LOOSENS, _ADMIN, "release the emergency stop"),
    Command("enable", _LOOSENS, _ADMIN, "switch a plugin on as configured, or let it trade with `live`", "NAME [live]"),
    Command("confirm", _READS, _VIEWER, "give the code of a question", "CODE"),
    Command("cancel", _READS, _VIEWER, "forget the question"),
)

BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}

_WORD = re.compile(r"/([A-Za-z0-9_]{1,32})(?:@([A-Za-z0-9_]{1,64}))?")
_WITH_ID = re.compile(r"(ack|resolve)_([a-z0-9]+)")
MAX_ARGUMENTS = 4


class NotUnderstood(Exception):
    """No such command; the text says what was given."""


def parse(text: str, username: str) -> Call | None:
    """The command that a message gives to the bot `username`; None when it gives none, or one to another bot.

    `/ack_k3f9` is `/ack k3f9`: what follows a slash can be tapped. Raises NotUnderstood for a command that there is not.
    """
    words = text.split()
    found = _WORD.fullmatch(words[0]) if words else None
    if found is None or (found[2] and found[2].lower() != username.lower()):
        return None
    name, arguments = found[1].lower(), words[1 : MAX_ARGUMENTS + 1]
    with_id = _WITH_ID.fullmatch(name)
    if with_id:
        name, arguments = with_id[1], [with_id[2], *arguments]
    command = BY_NAME.get(name)
    if command is None:
        raise NotUnderstood(f"/{name}")
    return Call(command, tuple(arguments))


def menu() -> dict[str, str]:
    """What BotFather's menu shows: every command but those that only help typing."""
    return {
        command.name: f"{command.summary} ({command.role.label})" if command.role > Role.VIEWER else command.summary
        for command in COMMANDS
        if command.name not in ("confirm", "cancel", "start")
    }
