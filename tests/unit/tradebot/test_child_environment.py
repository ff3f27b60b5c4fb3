"""Secrets reach those who need them, and nobody else."""

from __future__ import annotations

from pathlib import Path

from runtime.settings import Mode
from tradebot.child_environment import child_environment

ENVIRON = {
    "PATH": "/bin",
    "LC_ALL": "C",
    "AWS_SECRET_ACCESS_KEY": "canary",
    "BINANCE_API_KEY": "canary",
    "BINANCE_API_SECRET_FILE": "/run/secrets/binance",
    "LUNO_API_KEY_ID": "canary",
    "TELEGRAM_BOT_TOKEN": "canary",
    "TRADEBOT__BUS__URL": "redis://:canary@host",
    "TRADEBOT__POSTGRES__URL": "postgresql://u:canary@host/db",
    "TRADEBOT__BUS__URL_FILE": "/run/secrets/canary_bus",
    "TRADEBOT__POSTGRES__URL_FILE": "/run/secrets/canary_database",
    "TRADEBOT__LOG__LEVEL": "DEBUG",
}


def environment(mode: Mode = Mode.LIVE, **options: object) -> dict[str, str]:
    return child_environment(ENVIRON, home=Path("/home/x/.tradebot"), mode=mode, **options)  # type: ignore[arg-type]


def test_a_connector_gets_the_keys_of_its_own_exchange_in_live_mode_only() -> None:
    live = environment(exchange="binance", uses_bus=True)
    assert live["BINANCE_API_KEY"] == "canary"
    assert live["BINANCE_API_SECRET_FILE"] == "/run/secrets/binance"
    assert "LUNO_API_KEY_ID" not in live

    for mode in (Mode.SIMULATION, Mode.PAPER):
        assert not [name for name in environment(mode, exchange="binance") if "API" in name]


def test_nobody_else_gets_a_secret() -> None:
    assert "canary" not in " ".join(environment().values())
    bot = environment(uses_bus=True)
    assert [name for name, value in bot.items() if "canary" in value] == ["TRADEBOT__BUS__URL", "TRADEBOT__BUS__URL_FILE"]


def test_only_the_process_that_tells_people_gets_the_secrets_of_the_channels() -> None:
    assert "TELEGRAM_BOT_TOKEN" not in environment(uses_bus=True, uses_database=True)
    alerts = environment(uses_bus=True, uses_database=True, tells=True)
    assert alerts["TELEGRAM_BOT_TOKEN"] == "canary"
    assert not [name for name in alerts if name.startswith(("BINANCE", "LUNO", "AWS"))]


def test_settings_and_the_home_are_passed_on() -> None:
    child = environment(Mode.SIMULATION)
    assert child["TRADEBOT_HOME"] == "/home/x/.tradebot"
    assert child["TRADEBOT__MODE"] == "simulation"
    assert child["TRADEBOT__LOG__LEVEL"] == "DEBUG"
    assert child["PATH"] == "/bin"
    assert child["LC_ALL"] == "C"
