"""The picture fits the terminal and says what matters."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from common_models import (
    Alert,
    AlertLevel,
    Direction,
    Fill,
    Instrument,
    InstrumentStatus,
    Liquidity,
    PluginMode,
    PluginState,
    PluginStatus,
    Position,
    Side,
    Signal,
)
from runtime.settings import Settings
from tradebot.process_plan import plan
from tradebot.process_usage import Usage
from tradebot.screen import Screen, attention, happenings, one_line, positions
from tradebot.stack_numbers import Numbers, unresolved
from tradebot.story import Story
from tradebot.supervisor import Supervisor

SECOND_NS = 1_000_000_000
VENUE: dict[str, Any] = {"exchange": "binance", "account": "main", "symbol": "BTC/USDT", "ts_event_ns": 1, "ts_recv_ns": 1}


def busy() -> Numbers:
    numbers = Numbers(reachable=True, taken=3, denied=40, lags={"recorder": 12, "bot": 0})
    numbers.rates = {"trades": 123.4, "tickers": 800.0, "books": 20.5, "signals": 0.25}
    numbers.totals = Counter({"trades": 9, "tickers": 9, "books": 9, "signals": 1234, "orders": 8, "fills": 6})
    numbers.signals = [
        Signal(
            strategy="ema",
            exchange="binance",
            symbol="BTC/USDT",
            direction=Direction.BUY,
            confidence=1.0,
            strength=1.0,
            reason="fast over slow " * 20,
            ts_event_ns=1,
            ts_pub_ns=10 * SECOND_NS,
        )
    ]
    numbers.fills = [
        Fill(
            **VENUE,
            trade_id="7",
            client_order_id="a",
            exchange_order_id="b",
            side=Side.BUY,
            price=Decimal("60000.50"),
            quantity=Decimal("0.0100"),
            quote_quantity=Decimal("600.005"),
            fee=Decimal("0.00001"),
            fee_asset="BTC",
            liquidity=Liquidity.TAKER,
            ts_pub_ns=11 * SECOND_NS,
        )
    ]
    position = Position(
        **VENUE,
        strategy="ema",
        quantity=Decimal("0.01"),
        cost=Decimal(600),
        realised=Decimal("5.5"),
        unrealised=Decimal("-1.25"),
        fees=Decimal("0.25"),
    )
    numbers.positions = {("binance", "BTC/USDT", "ema"): position}
    numbers.usage = {os.getpid(): Usage(12.0, 45.0)}
    return numbers


async def picture(home: Path, width: int, height: int, numbers: Numbers) -> list[str]:
    settings = Settings.model_validate({"home": home / ".tradebot", "exchanges": {"binance": {"port": 8001}}})
    story = Story()
    for number in range(50):
        story.tell(f"line {number} " + "of the story " * 20, warning=number % 2 == 0)
    screen = Screen(settings, Supervisor(settings, plan(settings, {}), story), numbers)
    output = io.StringIO()
    Console(file=output, width=width, height=height, force_terminal=False).print(screen.render(width, height))
    await asyncio.sleep(0)
    return output.getvalue().removesuffix("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60)])
@pytest.mark.parametrize("numbers", [Numbers(), busy()])
async def test_the_picture_fits(tmp_path: Path, width: int, height: int, numbers: Numbers) -> None:
    lines = await picture(tmp_path, width, height, numbers)
    assert len(lines) == height
    assert max(map(len, lines)) <= width


async def test_it_says_what_matters_on_the_smallest_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    text = "\n".join(await picture(tmp_path, 80, 24, busy()))
    for words in (
        "simulation",
        "valkey",
        "connector-binance",
        "tickers 800",
        "trades 123",
        "signals 1,234",
        "3 taken 40 denied",
        "fills 6",
        "+4.00 after fees",
        "recorder 12",
        "0.01 BTC/USDT ema",
        'psql "$(',
        "tradebot db url",
        "tradebot bus url",
        "plugin|orders",
        "logs in .tradebot/logs",
        "Ctrl-C",
    ):
        assert words in text


async def test_a_small_window_keeps_the_story_and_the_trading(tmp_path: Path) -> None:
    lines = [line.plain for line in happenings(busy(), [], 4)]
    assert [line.split()[1] for line in lines] == ["signal", "fill"]
    assert happenings(busy(), [], 0) == []


def test_the_plain_output_has_the_same_figures() -> None:
    text = one_line(busy(), "tradebot")
    assert "signals 1,234" in text
    assert "recorder 12" in text
    assert "\n" not in text


def plugin(name: str, state: PluginState, mode: PluginMode = PluginMode.OFF, reason: str = "") -> PluginStatus:
    return PluginStatus(name=name, path=f"{name}.py", state=state, mode=mode, reason=reason, ts_event_ns=1)


def alert(code: str, at_s: int, level: AlertLevel = AlertLevel.ERROR, *, resolves: bool = False, symbol: str = "") -> Alert:
    return Alert(
        level=level,
        source="bot",
        code=code,
        text=f"what {code} is\nabout",
        ts_event_ns=1,
        ts_pub_ns=at_s * SECOND_NS,
        resolves=resolves,
        symbol=symbol,
    )


def in_trouble() -> Numbers:
    numbers = busy()
    numbers.stopped = "anna: fat finger"
    numbers.pauses = {"*": "news (bob)", "kraken": "slow (bob)"}
    told = [
        plugin("ema", PluginState.RUNNING, PluginMode.LIVE),
        plugin("sma", PluginState.RUNNING, PluginMode.LIVE, "sma.py:3: SyntaxError"),
        plugin("mine", PluginState.WARMING, PluginMode.SHADOW),
        plugin("wild", PluginState.QUARANTINED, reason="endless loop"),
        plugin("off", PluginState.DISABLED),
    ]
    numbers.plugins = {status.name: status for status in told}
    numbers.alerts = [alert("GAP", 9), alert("LAG", 8, AlertLevel.WARNING), alert("DISK", 7), alert("OLD", 6)]
    return numbers


def test_a_stop_a_pause_failed_plugins_and_alerts_are_told_with_the_way_out() -> None:
    lines = [line.plain for line in attention(in_trouble(), ".venv/bin/tradebot")]

    assert lines[0] == "stopped   by anna: fat finger  .venv/bin/tradebot resume"
    assert lines[1] == "paused    everything, news (bob); kraken, slow (bob)  .venv/bin/tradebot continue"
    assert lines[2] == ("plugins   2 live, 1 shadow  wild quarantined: endless loop  sma keeps its version: sma.py:3: SyntaxError")
    assert [line.split()[2:4] for line in lines[3:]] == [["error", "GAP"], ["warning", "LAG"], ["error", "DISK"]]
    assert all("\n" not in line for line in lines)


def test_nothing_to_tell_takes_no_line() -> None:
    assert attention(busy(), "tradebot") == []


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
async def test_the_picture_fits_with_all_its_troubles(tmp_path: Path, width: int, height: int) -> None:
    lines = await picture(tmp_path, width, height, in_trouble())

    assert len(lines) == height
    text = "\n".join(lines)
    for words in ("stopped   by anna", "paused    everything", "wild quarantined", "error GAP"):
        assert words in text


def test_alerts_that_are_over_old_or_mild_are_not_shown_and_each_matter_once() -> None:
    newest_first = [
        alert("GAP", 990, resolves=True),
        alert("LAG", 980, symbol="ETH/USDT"),
        alert("LAG", 970, symbol="BTC/USDT"),
        alert("LAG", 960, symbol="BTC/USDT"),
        alert("GAP", 950),
        alert("NEWS", 940, AlertLevel.INFO),
        alert("OLD", 100),
    ]

    found = unresolved(newest_first, 1000 * SECOND_NS)

    assert [(one.code, one.symbol, one.ts_pub_ns // SECOND_NS) for one in found] == [
        ("LAG", "ETH/USDT", 980),
        ("LAG", "BTC/USDT", 970),
    ]


def test_dust_is_no_position() -> None:
    numbers = busy()
    rules = Instrument(
        exchange="binance",
        symbol="BTC/USDT",
        ts_event_ns=None,
        ts_recv_ns=1,
        native_symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        status=InstrumentStatus.TRADING,
        price_tick=Decimal("0.01"),
        quantity_step=Decimal("0.001"),
        min_quantity=Decimal("0.001"),
        min_notional=Decimal(5),
    )
    numbers.rules = {("binance", "BTC/USDT"): rules}
    assert len(positions(numbers)) == 1

    numbers.rules = {("binance", "BTC/USDT"): msgspec.structs.replace(rules, min_notional=Decimal(1000))}
    assert positions(numbers) == []
