"""The kit finds what it promises to find."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common_models import OrderBook, Side, Ticker
from strategy import Candle, Direction, Plugin, PluginError, PluginSettings, Signal, Trade
from strategy.testing import (
    assert_deterministic,
    assert_survives_handover,
    assert_well_behaved,
    books,
    candles,
    directions,
    feed,
    handed_over,
    load,
    mixed,
    running,
    tickers,
    trades,
    walk,
    warmed_up,
)


class Counting(Plugin[PluginSettings]):
    """Says something with every third trade; `kept` is what it saves of its count."""

    name = "counting"
    kept: ClassVar[int] = 1

    def __init__(self, settings: PluginSettings, market: Any) -> None:
        super().__init__(settings, market)
        self.count = 0

    def on_trade(self, trade: Trade) -> Iterator[Signal]:
        self.count += 1
        if self.count % 3 == 0:
            direction = Direction.SELL if self.count % 6 == 0 else Direction.BUY
            yield self.signal(trade, direction, reason=str(self.count))

    def on_save(self) -> object:
        return {"count": self.count * self.kept}

    def on_load(self, state: object) -> None:
        assert isinstance(state, dict)
        self.count = state["count"]


class Forgetful(Counting):
    name = "forgetful"
    kept = 0


class Trend(Plugin[PluginSettings]):
    """Compares each candle with the mean of all before it, which the past tells: nothing needs to be saved."""

    name = "trend"

    def __init__(self, settings: PluginSettings, market: Any) -> None:
        super().__init__(settings, market)
        self.closes: list[float] = []

    def on_candle(self, candle: Candle) -> Iterator[Signal]:
        close = float(candle.close)
        self.closes.append(close)
        direction = Direction.BUY if close >= sum(self.closes) / len(self.closes) else Direction.SELL
        if direction is not self.direction:
            yield self.signal(candle, direction, reason=str(len(self.closes)))


class Doubling(Trend):
    name = "doubling"

    def on_save(self) -> object:
        return self.closes

    def on_load(self, state: object) -> None:
        assert isinstance(state, list)
        self.closes += state


class Unsaveable(Counting):
    name = "unsaveable"

    def on_save(self) -> object:
        return {1, 2}


class Moody(Plugin[PluginSettings]):
    name = "moody"

    def on_ticker(self, ticker: Ticker) -> Iterator[Signal]:
        yield self.signal(ticker, Direction.BUY, strength=random.random())


class Sharing(Plugin[PluginSettings]):
    name = "sharing"
    seen: ClassVar[list[Candle]] = []

    def on_candle(self, candle: Candle) -> Iterator[Signal]:
        self.seen.append(candle)
        yield self.signal(candle, Direction.BUY, reason=str(len(self.seen)))


class Loud(Plugin[PluginSettings]):
    name = "loud"

    def on_candle(self, candle: Candle) -> Iterator[Signal]:
        yield self.signal(candle, Direction.BUY, strength=2.0)


class Mute(Plugin[PluginSettings]):
    name = "mute"

    def on_candle(self, candle: Candle) -> Any:
        return ["buy!"]


def test_a_plugin_that_keeps_the_rules_passes() -> None:
    assert_well_behaved(Counting)


@pytest.mark.parametrize("kind", [Moody, Sharing])
def test_chance_and_shared_state_are_found(kind: type[Plugin[Any]]) -> None:
    with pytest.raises(AssertionError, match="said other things the second time"):
        assert_well_behaved(kind)


@pytest.mark.parametrize(("kind", "words"), [(Loud, "strength must lie in 0..1, not 2.0"), (Mute, "'buy!', which is no Signal")])
def test_what_the_bot_would_not_take_is_found(kind: type[Plugin[Any]], words: str) -> None:
    with pytest.raises(PluginError, match=words):
        assert_well_behaved(kind)


def test_state_that_is_not_saved_is_found() -> None:
    events = trades(walk(20))
    assert_survives_handover(Counting, events)
    with pytest.raises(AssertionError, match="after on_save and on_load"):
        assert_survives_handover(Forgetful, events)
    with pytest.raises(AssertionError, match="after on_save and on_load"):
        assert_well_behaved(Forgetful)


def test_the_past_is_shown_before_the_state_is_handed_over() -> None:
    """What candles tell need not be saved; what is loaded on top of them must not count twice."""
    assert_survives_handover(Trend, candles(walk(300)))
    with pytest.raises(AssertionError, match="after on_save and on_load"):
        assert_survives_handover(Doubling, candles(walk(300)))


def test_state_that_is_no_json_is_found() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        handed_over(running(Unsaveable))


def test_the_heir_is_another_instance_with_the_state_and_no_opinion() -> None:
    old = running(Counting)
    feed(old, trades(walk(4)))
    heir = handed_over(old)
    assert heir is not old
    assert (heir.count, heir.direction) == (4, Direction.HOLD)


def test_history_warms_up_and_its_opinions_are_forgotten() -> None:
    plugin = warmed_up(Sharing, candles(walk(5)))
    assert plugin.direction is Direction.HOLD
    assert len(Sharing.seen) >= 5


def test_only_what_is_subscribed_to_is_handed_over() -> None:
    events = mixed(candles(walk(9)), tickers(walk(9)), trades(walk(9)), books(walk(9)))
    assert len(feed(running(Counting), events)) == 3


def test_directions_are_what_was_said() -> None:
    assert directions(feed(running(Counting), trades(walk(6)))) == [Direction.BUY, Direction.SELL]


def test_a_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from strategy import Plugin\n\nclass Mine(Plugin):\n    name = 'mine'\n\nPLUGIN = Mine\n")
    assert load(path).name == "mine"


def test_a_walk_is_the_same_for_the_same_seed() -> None:
    assert walk(50, seed=3) == walk(50, seed=3) != walk(50, seed=4)


@given(st.lists(st.decimals("0.01", 10**6, places=2), min_size=1, max_size=20))
def test_made_events_are_sound_and_in_order(prices: list[Any]) -> None:
    events = mixed(candles(prices), tickers(prices, spread="0.02"), trades(prices, side=Side.SELL), books(prices, depth=3))

    assert len({event.message_id for event in events}) == len(events) == 4 * len(prices)
    assert [event.ts_recv_ns for event in events] == sorted(event.ts_recv_ns for event in events)
    for event in events:
        match event:
            case Candle():
                assert event.low <= min(event.open, event.close) <= max(event.open, event.close) <= event.high
            case Ticker():
                assert event.bid_price < event.ask_price
            case OrderBook():
                assert [event.bids, event.asks] == [tuple(sorted(event.bids, reverse=True)), tuple(sorted(event.asks))]
                assert event.bids[0][0] < event.asks[0][0]
                assert len(event.bids) == len(event.asks) == 3


def test_two_runs_of_the_same_events_agree() -> None:
    assert_deterministic(Counting, trades(walk(30)))
