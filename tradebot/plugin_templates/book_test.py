"""MyStrategy sides with the heavy side of the book."""

from __future__ import annotations

from strategy import Direction
from strategy.testing import assert_well_behaved, books, directions, feed, running
from tradebot.plugin_templates.book import MyStrategy


def test_it_follows_the_heavy_side_and_lets_go_when_none_is() -> None:
    plugin = running(MyStrategy, share=0.7)

    signals = feed(plugin, books([100], bid_size="9") + books([100], ask_size="9") + books([100]))

    assert directions(signals) == [Direction.BUY, Direction.SELL, Direction.HOLD]


def test_the_heavier_the_stronger() -> None:
    plugin = running(MyStrategy, share=0.7)

    some, much = feed(plugin, books([100], bid_size="3") + books([100]) + books([100], bid_size="99"))[::2]

    assert 0 < some.strength < much.strength <= 1


def test_it_keeps_the_rules_of_a_plugin() -> None:
    assert_well_behaved(MyStrategy)
