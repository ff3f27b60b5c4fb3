"""How opinions add up."""

from __future__ import annotations

import pytest

from bot.consensus import Consensus
from common_models import Direction, Signal
from strategy import Market

MARKET = Market("binance", "BTC/USDT")


def opinion(strategy: str, direction: Direction, strength: float = 1.0, confidence: float = 1.0) -> Signal:
    return Signal(
        strategy=strategy,
        exchange=MARKET.exchange,
        symbol=MARKET.symbol,
        direction=direction,
        strength=strength,
        confidence=confidence,
        reason="",
        ts_event_ns=1,
    )


def score(*opinions: Signal) -> float:
    consensus = Consensus()
    for one in opinions:
        consensus.give(one)
    return consensus.score(MARKET)


def test_nobody_and_everybody() -> None:
    assert score() == 0
    assert score(opinion("a", Direction.HOLD)) == 0
    assert score(opinion("a", Direction.BUY), opinion("b", Direction.BUY)) == 1
    assert score(opinion("a", Direction.SELL)) == -1


def test_who_holds_abstains_and_the_others_are_weighed_by_confidence() -> None:
    assert score(opinion("a", Direction.BUY), opinion("b", Direction.HOLD)) == 1
    assert score(opinion("a", Direction.BUY), opinion("b", Direction.SELL)) == 0
    assert score(opinion("a", Direction.BUY, confidence=0.9), opinion("b", Direction.SELL, confidence=0.1)) == pytest.approx(0.8)
    assert score(opinion("a", Direction.BUY, strength=0.5)) == 0.5
    assert score(opinion("a", Direction.BUY, confidence=0)) == 0


def test_the_last_word_of_a_plugin_counts_until_it_is_withdrawn() -> None:
    consensus = Consensus()
    for one in (opinion("a", Direction.BUY), opinion("a", Direction.SELL), opinion("b", Direction.BUY)):
        consensus.give(one)
    assert consensus.score(MARKET) == 0
    consensus.withdraw("a", Market("binance", "ETH/USDT"))
    assert consensus.score(MARKET) == 0
    consensus.withdraw("a")
    assert consensus.score(MARKET) == 1


def test_too_few_opinions_are_no_consensus() -> None:
    consensus = Consensus(min_opinions=2)
    consensus.give(opinion("sma", Direction.BUY))
    assert consensus.score(MARKET) == 0.0
    consensus.give(opinion("ema", Direction.BUY))
    assert consensus.score(MARKET) > 0
