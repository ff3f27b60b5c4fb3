"""MyStrategy turns with the trend, on candles and on quotes."""

from __future__ import annotations

import pytest

from strategy import Direction, PluginError
from strategy.testing import assert_well_behaved, candles, directions, feed, running, tickers
from tradebot.plugin_templates.cross import MyStrategy

UP_DOWN_UP = [10, 10, 10, 10, 11, 12, 13, 12, 9, 6, 5, 8, 12]


def test_it_turns_with_the_trend_of_candles() -> None:
    plugin = running(MyStrategy, fast_period=2, slow_period=4)

    assert directions(feed(plugin, candles(UP_DOWN_UP))) == [Direction.BUY, Direction.SELL, Direction.BUY]


def test_quotes_do_as_well() -> None:
    plugin = running(MyStrategy, source="ticks", fast_period=2, slow_period=4)

    assert directions(feed(plugin, tickers(UP_DOWN_UP))) == [Direction.BUY, Direction.SELL, Direction.BUY]


def test_a_fast_average_that_is_slow_is_refused() -> None:
    with pytest.raises(PluginError, match="fast_period"):
        running(MyStrategy, fast_period=20, slow_period=10)


def test_it_keeps_the_rules_of_a_plugin() -> None:
    assert_well_behaved(MyStrategy)
