"""The picture fits the terminal and says what matters."""

from __future__ import annotations

import asyncio
import io
import os
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from common_models import Direction, Fill, Liquidity, Position, Side, Signal
from runtime.settings import Settings
from tradebot.process_plan import plan
from tradebot.process_usage import Usage
from tradebot.screen import Screen, happenings, one_line
from tradebot.stack_numbers import Numbers
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
    settings = Settings.model_validate({"home": home, "exchanges": {"binance": {"port": 8001}}})
    story = Story()
    for number in range(50):
        story.tell(f"line {number} " + "of the story " * 20, warning=number % 2 == 0)
    screen = Screen(settings, Supervisor(settings, plan(settings, {}), story), numbers)
    output = io.StringIO()
    Console(file=output, width=width, height=height, force_terminal=False).print(screen.render(width, height))
    await asyncio.sleep(0)
    return output.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60)])
@pytest.mark.parametrize("numbers", [Numbers(), busy()])
async def test_the_picture_fits(tmp_path: Path, width: int, height: int, numbers: Numbers) -> None:
    lines = await picture(tmp_path, width, height, numbers)
    assert len(lines) == height
    assert max(map(len, lines)) <= width


async def test_it_says_what_matters_on_the_smallest_terminal(tmp_path: Path) -> None:
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
        "tradebot db url",
        "tradebot bus tail",
        "Ctrl-C",
    ):
        assert words in text


async def test_a_small_window_keeps_the_story_and_the_trading(tmp_path: Path) -> None:
    lines = [line.plain for line in happenings(busy(), [], 4)]
    assert [line.split()[1] for line in lines] == ["signal", "fill"]
    assert happenings(busy(), [], 0) == []


def test_the_plain_output_has_the_same_figures() -> None:
    text = one_line(busy())
    assert "signals 1,234" in text
    assert "recorder 12" in text
    assert "\n" not in text
