"""One table of commands: complete, without doubles, and what the documentation shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alerts.telegram.access import Role
from alerts.telegram.commands import BY_NAME, COMMANDS, Effect, NotUnderstood, menu, parse
from alerts.telegram.system_answers import help_lines

DOCS = Path(__file__).resolve().parents[4] / "docs" / "telegram.md"
WANTED = [
    "start",
    "help",
    "version",
    "status",
    "trades",
    "profit",
    "daily",
    "weekly",
    "monthly",
    "balance",
    "performance",
    "count",
    "orders",
    "plugins",
    "enable",
    "disable",
    "signals",
    "logs",
    "health",
    "alerts",
    "ack",
    "resolve",
    "stop",
    "stopentry",
    "pause",
    "kill",
    "resume",
    "resume_trading",
    "stopbuy",
    "pf",
    "portfolio",
    "ping",
    "chart",
    "oo",
    "open_orders",
    "fills",
]


def test_every_name_is_one_command() -> None:
    names = [name for command in COMMANDS for name in (command.name, *command.aliases)]
    assert len(names) == len(set(names)) == len(BY_NAME)
    assert set(WANTED) <= set(names)


def test_nobody_below_a_trader_stops_and_only_codes_loosen() -> None:
    for command in COMMANDS:
        assert (command.role >= Role.TRADER) or command.effect is Effect.READS, command
    assert {command.name for command in COMMANDS if command.effect is Effect.LOOSENS} == {"resume", "resume_trading", "enable"}


def test_the_menu_is_what_botfather_takes() -> None:
    for name, description in menu().items():
        assert re.fullmatch("[a-z0-9_]{1,32}", name)
        assert 1 <= len(description) <= 256


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/status table", "/status table"),
        ("/STOPBUY", "/pause"),
        ("/pf@Local_Tradebot", "/balance"),
        ("/ack_k3f9", "/ack k3f9"),
        ("  /profit   7  ", "/profit 7"),
        ("/enable sma live and more than that", "/enable sma live and more"),
    ],
)
def test_commands_are_understood_as_people_write_them(text: str, said: str) -> None:
    assert str(parse(text, "local_tradebot")) == said


@pytest.mark.parametrize("text", ["", "hello", "/", "//stop", "/stop@another_bot", "stop /stop", "/st\u043ep", "/stop\u200b"])
def test_other_texts_are_no_commands(text: str) -> None:
    assert parse(text, "local_tradebot") is None


def test_an_unknown_command_is_not_guessed() -> None:
    with pytest.raises(NotUnderstood):
        parse("/sto", "local_tradebot")


@pytest.mark.parametrize(
    ("argument", "count"), [("5", 5), ("0", 1), ("999", 50), ("-3", 10), ("1e9", 10), ("9" * 40, 10), ("\u0663", 3)]
)
def test_counts_are_bounded(argument: str, count: int) -> None:
    call = parse(f"/trades {argument}", "x")
    assert call is not None
    assert call.number(10, 50) == count


def test_the_documentation_shows_this_table() -> None:
    rows = [
        f"| `/{command.name}{' ' if command.usage else ''}{command.usage}` | {' '.join(f'`/{alias}`' for alias in command.aliases)} "
        f"| {command.role.label} | {command.effect} | {command.summary} |"
        for command in COMMANDS
    ]
    text = DOCS.read_text(encoding="utf-8")
    missing = [row for row in rows if row not in text]
    assert missing == []


def test_help_names_every_command() -> None:
    said = "\n".join(line.text for line in help_lines())
    assert all(f"/{command.name}" in said for command in COMMANDS)
