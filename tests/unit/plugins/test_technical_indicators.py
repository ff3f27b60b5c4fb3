"""The four plugins say what their names promise, and say it once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bot.isolation.loading import load_class
from strategy import Direction, PluginError
from strategy.testing import candles, feed, running, tickers, trades

BUY, SELL, HOLD = Direction.BUY, Direction.SELL, Direction.HOLD
FILES = sorted((Path(__file__).resolve().parents[3] / "plugins/technical_indicators").glob("[a-z]*.py"))
KINDS = {path.stem: load_class(path.name, path.read_bytes()) for path in FILES}
SHORT: dict[str, dict[str, Any]] = {
    "sma": {"fast_period": 2, "slow_period": 4},
    "ema": {"fast_period": 2, "slow_period": 4},
    "rsi": {"period": 4},
    "bollinger_bands": {"period": 4, "deviations": 1.5},
}


def directions(signals: list[Any]) -> list[Direction]:
    return [signal.direction for signal in signals]


def test_all_four_are_found() -> None:
    assert {kind.name for kind in KINDS.values()} == set(KINDS) == {"sma", "ema", "rsi", "bollinger_bands"}


@pytest.mark.parametrize("name", ["sma", "ema"])
def test_crossing_averages_turn_once_with_the_trend(name: str) -> None:
    plugin = running(KINDS[name], fast_period=2, slow_period=4)
    prices = [10, 10, 10, 10, 11, 12, 13, 12, 9, 6, 5, 8, 12]

    assert directions(feed(plugin, candles(prices))) == [BUY, SELL, BUY]


def test_a_band_keeps_averages_that_lie_on_each_other_quiet() -> None:
    wobble = [100, 100.01] * 20

    assert len(feed(running(KINDS["sma"], fast_period=1, slow_period=2), candles(wobble))) > 10
    assert feed(running(KINDS["sma"], fast_period=1, slow_period=2, band_percent=0.1), candles(wobble)) == []


def test_rsi_buys_the_oversold_sells_the_overbought_and_holds_between() -> None:
    plugin = running(KINDS["rsi"], period=3)
    fall, rise = [100, 99, 98, 97, 96], [97, 98, 99, 100, 101, 102]
    signals = feed(plugin, candles(fall + rise))

    assert directions(signals) == [BUY, HOLD, SELL]
    assert all(0.5 <= signal.strength <= 1 for signal in signals if signal.direction is not HOLD)


def test_rsi_has_no_opinion_on_a_market_that_stands_still() -> None:
    assert feed(running(KINDS["rsi"], period=3), candles([100] * 10)) == []


def test_bollinger_buys_below_the_band_until_the_middle_is_back() -> None:
    plugin = running(KINDS["bollinger_bands"], period=5, deviations=1.5)

    assert directions(feed(plugin, candles([100, 101, 100, 101, 100, 95, 96, 97, 100]))) == [BUY, HOLD]


@pytest.mark.parametrize("name", sorted(KINDS))
@pytest.mark.parametrize(("source", "make"), [("ticks", tickers), ("trades", trades)])
def test_every_plugin_can_listen_to_ticks_and_trades(name: str, source: str, make: Any) -> None:
    settings = SHORT[name]
    plugin = running(KINDS[name], source=source, **settings)
    prices = [100, 101, 100, 101, 100, 90, 80, 85, 95, 110, 120, 100]

    assert plugin.warm_up == 0
    assert len(feed(plugin, make(prices))) >= 2
    assert plugin.subscriptions() == {"on_ticker" if source == "ticks" else "on_trade"}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_live_price_moves_the_opinion_but_not_the_indicator(name: str) -> None:
    settings = SHORT[name]
    closes = [100, 101, 100, 101, 100]
    disturbed, calm = running(KINDS[name], **settings), running(KINDS[name], intrabar=False, **settings)
    feed(disturbed, candles(closes))
    feed(calm, candles(closes))
    assert feed(disturbed, tickers([150])) != [], "a jump within the bar gave no signal"
    for plugin in (disturbed, calm):
        plugin.forget_opinion()
    later = candles([100, 99, 98, 90, 95, 120], start_ns=candles(closes)[-1].close_ns)

    assert [(one.direction, one.reason) for one in feed(disturbed, later)] == [
        (one.direction, one.reason) for one in feed(calm, later)
    ]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_before_the_warm_up_is_over_nothing_is_said(name: str) -> None:
    plugin = running(KINDS[name])
    assert plugin.warm_up > 0
    rising = [100 * 1.01**number for number in range(plugin.warm_up - 1)]

    assert feed(plugin, candles(rising)) == []


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("sma", {"fast_period": 20, "slow_period": 10}, "fast_period 20 must be below slow_period 10"),
        ("ema", {"fast_period": 0}, "fast_period"),
        ("rsi", {"oversold": 80}, "oversold 80 must be below overbought 70"),
        ("bollinger_bands", {"deviation": 2}, "deviation: unknown setting"),
        ("bollinger_bands", {"period": 4}, "no price of 4 lies 2 deviations off"),
        ("sma", {"source": "moon"}, "source"),
    ],
)
def test_wrong_settings_are_told_by_name(name: str, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(PluginError, match=text):
        running(KINDS[name], **settings)
