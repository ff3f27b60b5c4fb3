"""All instances of one plugin: warmed up, heard when live, checked, and given up on after five failures."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from bot.isolation.runner import Runner, StateError
from common_models import Direction
from strategy import Market, PluginError
from strategy.testing import MARKET, candles, tickers

OTHER = Market("test", "ETH/USDT")

PLUGIN = """
from strategy import Direction, Plugin, PluginSettings, Signal
import strategy
from pydantic import Field

class Settings(PluginSettings):
    period: int = Field(3, ge=1)

class Sample(Plugin[Settings]):
    name = "sample"
    settings_type = Settings
    seen = 0

{members}

PLUGIN = Sample
"""

SAYS = """
    def on_ticker(self, ticker):
        {body}
"""

COUNTS = """
    @property
    def warm_up(self):
        return self.settings.period

    def on_candle(self, candle):
        self.seen += 1
        if self.direction is not Direction.BUY:
            yield self.signal(candle, Direction.BUY, reason=f"{self.seen} of {self.market.symbol}")

    def on_save(self):
        return {"seen": self.seen}

    def on_load(self, state):
        self.seen = state["seen"]

    def heartbeat(self):
        return f"{self.seen} seen"
"""


def runner_of(members: str, settings: Mapping[str, Any] | None = None, told: list[str] | None = None) -> Runner:
    code = PLUGIN.replace("{members}", members).encode()
    return Runner(
        "folder/sample.py", code, settings or {}, [MARKET, OTHER], 64, told.append if told is not None else lambda _: None
    )


def says(body: str, told: list[str] | None = None) -> Runner:
    return runner_of(SAYS.replace("{body}", body), told=told)


def live(events: Any) -> list[tuple[Any, bool]]:
    return [(event, True) for event in events]


def test_facts_tell_what_the_bot_must_know() -> None:
    facts = runner_of(COUNTS, {"period": 5}).facts

    assert (facts.name, sorted(facts.callbacks), facts.warm_up, facts.when_gone) == ("sample", ["on_candle"], 5, "keep")
    assert [one.module for one in facts.imports] == ["pydantic", "strategy"]
    (setting,) = facts.settings
    assert (setting.name, setting.type, setting.default, setting.bounds) == ("period", "int", "3", "ge 1")


def test_wrong_settings_are_refused_by_name() -> None:
    with pytest.raises(PluginError, match="plugin sample: perod: unknown setting"):
        runner_of(COUNTS, {"perod": 5})


def test_before_it_is_warm_it_is_not_heard() -> None:
    said, failures = runner_of(COUNTS).take(live(candles([1, 2, 3, 4])))

    assert [(one.event, one.direction, one.reason) for one in said] == [(2, Direction.BUY, "3 of BTC/USDT")]
    assert failures == []


def test_the_past_that_it_is_shown_makes_it_warm() -> None:
    runner = runner_of(COUNTS)
    runner.show(0, candles([1, 2, 3]))
    said, _ = runner.take(live(candles([4])))
    assert [one.reason for one in said] == ["4 of BTC/USDT"]

    runner.anew(0)
    assert runner.take(live(candles([5]))) == ([], [])


def test_what_is_said_of_the_past_goes_nowhere_and_is_said_again_when_it_still_holds() -> None:
    runner = runner_of(COUNTS)
    first, *rest = candles([1, 2, 3, 4, 5])
    said, _ = runner.take([(first, False), *((candle, False) for candle in rest[:3]), (rest[3], True)])

    assert [(one.event, one.reason) for one in said] == [(4, "5 of BTC/USDT")]


def test_each_market_has_its_own_instance() -> None:
    runner = runner_of(COUNTS)
    runner.show(0, candles([1, 2, 3]))
    others = [msgspec.structs.replace(candle, symbol=OTHER.symbol) for candle in candles([1, 2, 3])]
    runner.show(1, others)

    assert runner.heartbeat() == "3 seen"
    runner.anew(1)
    assert runner.heartbeat() == "3 seen; 0 seen"


def test_events_of_unknown_markets_and_crossed_quotes_reach_nobody() -> None:
    runner = says("yield self.signal(ticker, Direction.BUY)")
    (ticker,) = tickers([100])
    strange = msgspec.structs.replace(ticker, symbol="XRP/USDT")
    crossed = msgspec.structs.replace(ticker, crossed=True)

    assert runner.take(live([strange, crossed])) == ([], [])


def test_five_failures_end_it_and_what_failed_is_told_with_file_and_line() -> None:
    told: list[str] = []
    runner = says("raise RuntimeError('no luck')", told)
    _, failures = runner.take(live(tickers(range(100, 108))))

    assert [failure.event for failure in failures] == [0, 1, 2, 3, 4]
    assert failures[0].text == "RuntimeError: no luck (folder/sample.py:16, on_ticker)"
    assert runner.over == "failed 5 times, last RuntimeError: no luck (folder/sample.py:16, on_ticker)"
    assert "raise RuntimeError('no luck')" in told[0]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("yield 5", "said 5, which is no Signal"),
        ("return 5", "TypeError: 'int' object is not iterable"),
        ("yield self.signal(ticker, 'up')", "which is no Signal"),
        ("yield self.signal(ticker, Direction.BUY, strength=float('nan'))", "strength must lie in 0..1, not nan"),
        ("yield self.signal(ticker, Direction.BUY, strength=2)", "strength must lie in 0..1, not 2"),
        ("yield self.signal(ticker, Direction.BUY, confidence='much')", "confidence must lie in 0..1, not 'much'"),
        ("yield self.signal(ticker, Direction.BUY, reason=5)", "TypeError"),
        ("yield self.signal(ticker, Direction.BUY); raise ValueError('late')", "ValueError: late"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise PermissionError(1, 'Operation not permitted')", "blocked: PermissionError"),
        ("raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})", "E (whose text raised ZeroDivisionError)"),
    ],
)
def test_a_senseless_signal_or_an_exception_is_a_failure_and_nothing_of_that_event_counts(body: str, text: str) -> None:
    said, (failure,) = says(body).take(live(tickers([100])))

    assert said == []
    assert text in failure.text


def test_running_out_of_memory_once_is_enough() -> None:
    runner = says("raise MemoryError")
    runner.take(live(tickers([100])))

    assert runner.over == "memory: on_ticker needed more than 64 MB"


def test_more_than_sixteen_signals_for_one_event_end_it() -> None:
    runner = says("while True: yield self.signal(ticker, Direction.BUY)")
    runner.take(live(tickers([100])))

    assert runner.over == "too many signals: more than 16 for one event"


def test_a_claimed_identity_is_not_even_passed_on() -> None:
    claim = "Signal(strategy='other', exchange='x', symbol='y', direction=Direction.BUY, confidence=1, strength=1, reason='', ts_event_ns=1)"
    said, _ = says(f"yield {claim}").take(live(tickers([100])))

    assert [tuple(msgspec.structs.asdict(one).values()) for one in said] == [(0, Direction.BUY, 1.0, 1.0, "")]


def test_state_goes_from_one_version_to_the_next_for_each_market() -> None:
    old, new = runner_of(COUNTS), runner_of(COUNTS)
    old.show(1, [msgspec.structs.replace(candle, symbol=OTHER.symbol) for candle in candles([1, 2])])
    new.load(old.save())

    assert new.heartbeat() == "0 seen; 2 seen"


@pytest.mark.parametrize("state", ["object()", "float('nan')", "'x' * 2_000_000", "1 / 0"])
def test_a_state_that_cannot_be_kept_is_an_error_that_says_so(state: str) -> None:
    with pytest.raises(StateError, match="on_save"):
        runner_of(f"    def on_save(self): return {state}").save()


def test_a_state_that_is_not_taken_is_an_error() -> None:
    with pytest.raises(StateError, match=r"ValueError: too old .*on_load"):
        runner_of("    def on_load(self, state): raise ValueError('too old')").load(b'[["test", "BTC/USDT", 1]]')


def test_a_failing_heartbeat_counts_as_a_failure() -> None:
    runner = runner_of("    def heartbeat(self): return 5")

    assert runner.heartbeat() == ""
    assert runner.errors == 2  # one a market


def test_loading_leaves_the_import_path_alone_and_shadows_nothing() -> None:
    before = list(sys.path)
    runner = Runner("json.py", PLUGIN.replace("{members}", COUNTS).encode(), {}, [MARKET])

    assert runner.facts.name == "sample"
    assert sys.path == before
    assert sys.modules["json"].dumps([]) == "[]"
