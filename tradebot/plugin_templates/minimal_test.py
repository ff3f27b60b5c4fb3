"""MyStrategy follows the price across where it stood at the start."""

from __future__ import annotations

from strategy import Direction
from strategy.testing import assert_well_behaved, directions, feed, running, tickers
from tradebot.plugin_templates.minimal import MyStrategy


def test_it_buys_above_the_start_and_sells_below() -> None:
    plugin = running(MyStrategy)

    signals = feed(plugin, tickers([100, 101, 102, 99, 98, 101]))

    assert directions(signals) == [Direction.BUY, Direction.SELL, Direction.BUY]


def test_it_keeps_the_rules_of_a_plugin() -> None:
    assert_well_behaved(MyStrategy)
