from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.settings import Mode
from runtime.settings_loader import ConfigError, load_settings

BINANCE = "binance:\n  port: 8001\n  symbols: [BTC/USDT]\n"


def write(root: Path, tradebot: str = "", exchanges: str = "", dotenv: str = "") -> Path:
    (root / "config").mkdir(exist_ok=True)
    (root / "config/tradebot.yaml").write_text(tradebot, encoding="utf-8")
    (root / "config/exchanges.yaml").write_text(exchanges, encoding="utf-8")
    if dotenv:
        (root / ".env").write_text(dotenv)
    return root


def test_nothing_configured_is_simulation_with_defaults(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, environ={})
    assert settings.mode is Mode.SIMULATION
    assert settings.home == tmp_path / ".tradebot"


def test_the_strongest_source_wins(tmp_path: Path) -> None:
    root = write(tmp_path, "bot:\n  port: 1\nbus:\n  port: 1\npostgres:\n  port: 1\nrecorder:\n  port: 1\n",
                 dotenv="TRADEBOT__BUS__PORT=2\nTRADEBOT__POSTGRES__PORT=2\nTRADEBOT__RECORDER__PORT=2\n")  # fmt: skip
    environ = {"TRADEBOT__POSTGRES__PORT": "3", "TRADEBOT__RECORDER__PORT": "3"}
    settings = load_settings(root, overrides={"recorder.port": 4}, environ=environ)
    assert (settings.bot.port, settings.bus.port, settings.postgres.port, settings.recorder.port) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bot:\n  prot: 1\n", r"tradebot\.yaml:2: bot\.prot: unknown key"),
        ("bot:\n  port: 1\n  port: 2\n", r"tradebot\.yaml:3: bot\.port is set twice, first in line 2"),
        ("bot:\n  port: many\n", r"tradebot\.yaml:2: bot\.port: .*integer"),
        ("mode: NO\n", r"tradebot\.yaml:1: mode:"),
        ("a: [1\n", r"tradebot\.yaml:2: "),
        ("bot: &x {}\nbus: *x\n", r"tradebot\.yaml:2: anchors and aliases"),
        ("- 1\n", r"tradebot\.yaml:1: expected keys and values"),
        ("\tbot: 1\n", r"tradebot\.yaml:1: "),
        ("bot:\n  risk:\n    position_size_percentage: 1e9999999\n", r"tradebot\.yaml:3: bot\.risk\.position_size_percentage"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(write(tmp_path, text), environ={})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("binance:\n  port: 1\n  symbols: [BTCUSDT]\n", r"exchanges\.yaml:3: exchanges\.binance\.symbols\.0: .*like BTC/USDT"),
        ("binance:\n  port: 1\n  symbols: [BTC/USDT, btc-usdt]\n", r"exchanges\.yaml:3: .*BTC/USDT is there twice"),
        ("binance:\n  port: 1\n  symbols: []\n", r"exchanges\.yaml:3: exchanges\.binance\.symbols: .*at least 1"),
        ("binance:\n  port: 1\n  symbols: ['../x/y']\n", r"exchanges\.yaml:3: exchanges\.binance\.symbols\.0: .*like BTC/USDT"),
        ("binance:\n  port: 1\n  timeframes: [7m]\n", r"exchanges\.yaml:3: exchanges\.binance\.timeframes\.0: .*'1m'"),
        ("binance:\n  port: 1\n  timeframes: [5m]\n", r"bot\.timeframe is 1m, which is not among exchanges\.binance\.timeframes"),
        ("binance:\n  port: 1\n  rest_url: file:///etc/passwd\n", r"exchanges\.yaml:3: exchanges\.binance\.rest_url"),
        ("../binance:\n  port: 1\n", r"exchanges\.yaml:1: exchanges\.\.\./binance"),
        ("binance:\n  port: 1\n  stale_after_s: inf\n", r"exchanges\.yaml:3: exchanges\.binance\.stale_after_s"),
    ],
)
def test_an_exchange_that_could_not_work_is_refused_before_anything_starts(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(write(tmp_path, "", text), environ={})


def test_a_mistake_in_the_environment_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"environment: TRADEBOT__BOT__PORT: bot\.port"):
        load_settings(tmp_path, environ={"TRADEBOT__BOT__PORT": "x"})


def test_money_is_read_without_a_float_on_the_way(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, "bot:\n  risk:\n    position_size_percentage: 0.1\n", BINANCE), environ={})
    assert settings.bot.risk.position_size_percentage == Decimal("0.1")


def test_no_is_a_word_and_not_a_boolean(tmp_path: Path) -> None:
    root = write(tmp_path, "", "binance:\n  port: 8001\n  symbols: [NO/USDT, ON/USDT]\n")
    assert load_settings(root, environ={}).exchanges["binance"].symbols == ("NO/USDT", "ON/USDT")


def test_lists_can_come_from_the_environment(tmp_path: Path) -> None:
    environ = {"TRADEBOT__EXCHANGES__BINANCE__SYMBOLS": "[BTC/USDT, ETH/USDT]", "TRADEBOT__EXCHANGES__BINANCE__PORT": "0"}
    assert load_settings(tmp_path, environ=environ).exchanges["binance"].symbols == ("BTC/USDT", "ETH/USDT")


def test_a_secret_is_never_in_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, "bus:\n  url: [redis://u:hunter2@h]\n"), environ={})
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_settings_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("config") / "tradebot.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_settings(path.parent, environ={}, files=[path])
    except ConfigError as error:
        assert "tradebot.yaml" in str(error)
