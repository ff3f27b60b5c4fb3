"""MyStrategy turns when a quote leaves the range of the last ones, and a new version of it goes on where the old one was."""

from __future__ import annotations

from strategy import Direction
from strategy.testing import assert_survives_handover, assert_well_behaved, directions, feed, running, tickers, walk
from tradebot.plugin_templates.ticks import MyStrategy


def test_it_follows_a_break_out_of_the_window() -> None:
    plugin = running(MyStrategy, window=3)

    signals = feed(plugin, tickers([100, 101, 100, 102, 101, 99]))

    assert directions(signals) == [Direction.BUY, Direction.SELL]


def test_nothing_is_said_before_the_window_is_full() -> None:
    assert feed(running(MyStrategy, window=10), tickers(range(1, 11))) == []


def test_a_new_version_goes_on_where_the_old_one_was() -> None:
    assert_survives_handover(MyStrategy, tickers(walk(400)), window=20)


def test_it_keeps_the_rules_of_a_plugin() -> None:
    assert_well_behaved(MyStrategy, window=20)
