"""MyStrategy turns with the last candle of a row, and says so once."""

from __future__ import annotations

import pytest

from strategy import Direction, PluginError
from strategy.testing import assert_well_behaved, candles, directions, feed, running, warmed_up
from tradebot.plugin_templates.candles import MyStrategy


def test_three_rising_candles_buy_and_three_falling_ones_sell() -> None:
    plugin = running(MyStrategy, lookback=3)

    signals = feed(plugin, candles([100, 101, 102, 103, 102, 101, 100]))

    assert directions(signals) == [Direction.BUY, Direction.SELL]


def test_history_counts_and_what_was_said_then_is_said_again_when_it_holds() -> None:
    history = candles([100, 101, 102, 103, 104])
    plugin = warmed_up(MyStrategy, history[:-1], lookback=3)

    assert directions(feed(plugin, history[-1:])) == [Direction.BUY]


def test_a_lookback_of_nothing_is_refused() -> None:
    with pytest.raises(PluginError, match="lookback"):
        running(MyStrategy, lookback=0)


def test_it_keeps_the_rules_of_a_plugin() -> None:
    assert_well_behaved(MyStrategy)
