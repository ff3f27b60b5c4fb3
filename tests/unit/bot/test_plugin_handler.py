"""Plugins are loaded from files, warmed up, attributed, and switched off for their own faults only."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.plugin_handler import PATIENCE_S
from common_models import Alert, AlertLevel, ControlAction, Decision, PluginState, PluginStatus, Signal
from strategy import Market
from tests.unit.bot.conftest import OBEDIENT

BTC = Market("binance", "BTC/USDT")
PLUGINS = Path(__file__).resolve().parents[3] / "plugins/technical_indicators"

FAILING = """
from strategy import Plugin

class Failing(Plugin):
    name = "failing"

    def on_ticker(self, ticker):
        raise RuntimeError("no luck")

PLUGIN = Failing
"""

LIAR = """
from strategy import Direction, Plugin, Signal

class Liar(Plugin):
    name = "liar"

    def on_ticker(self, ticker):
        yield Signal(strategy="obedient", exchange="kraken", symbol="ETH/USDT", direction=Direction.BUY,
                     confidence=1.0, strength=1.0, reason="", ts_event_ns=1, causation_id="x")

PLUGIN = Liar
"""

CANDLES = """
from strategy import SMA, Direction, Plugin, PluginSettings

class CandleSettings(PluginSettings):
    period: int = 3

class Candles(Plugin[CandleSettings]):
    name = "candles"
    settings_type = CandleSettings

    def __init__(self, settings, market):
        super().__init__(settings, market)
        self.sma = SMA(settings.period)

    @property
    def warm_up(self):
        return self.settings.period

    def on_candle(self, candle):
        self.sma.update(float(candle.close))
        yield self.signal(candle, Direction.BUY, reason=str(self.sma.value))

PLUGIN = Candles
"""


def test_a_failing_plugin_is_ended_and_the_others_go_on(make_bot: Any) -> None:
    bot = make_bot({"obedient.py": OBEDIENT, "failing.py": FAILING}).ready()
    for _ in range(8):
        bot.tick(50_000, word=1)

    (alert,) = [alert for alert in bot.said(Alert) if alert.level is not AlertLevel.INFO]
    assert (alert.code, alert.category, alert.numbers) == ("PLUGIN_QUARANTINED", "plugins", {"plugin": "failing"})
    assert "failed 5 times" in alert.text
    assert "no luck" in alert.text
    assert {signal.strategy for signal in bot.said(Signal)} == {"obedient"}
    assert len(bot.orders) == 1


def test_a_plugin_cannot_speak_for_another(make_bot: Any) -> None:
    bot = make_bot({"liar.py": LIAR}).ready()
    ticker = bot.tick(50_000)

    (signal,) = bot.said(Signal)
    assert (signal.strategy, signal.exchange, signal.symbol) == ("liar", "binance", "BTC/USDT")
    assert signal.causation_id == ticker.message_id


@pytest.mark.parametrize("strength", ["2.0", "-0.1", "float('nan')", "'much'"])
def test_a_senseless_signal_is_an_error_of_its_plugin(make_bot: Any, strength: str) -> None:
    bot = make_bot({"liar.py": LIAR.replace("strength=1.0", f"strength={strength}")}).ready()
    bot.tick(50_000)

    assert bot.said(Signal) == []
    assert bot.workers.made["liar"].runner.errors == 1


def test_the_opinion_of_a_plugin_that_was_switched_off_counts_no_more(make_bot: Any) -> None:
    bot = make_bot().ready()
    bot.tick(50_000, word=1)
    assert bot.loop.consensus.score(BTC) == 1
    bot.control(ControlAction.DISABLE, "obedient")

    assert bot.loop.consensus.score(BTC) == 0


def test_past_candles_warm_up_and_give_no_signal(make_bot: Any) -> None:
    bot = make_bot({"candles.py": CANDLES}).ready()
    *past, newest = bot.closed_candles([1.0, 2.0, 3.0, 6.0])
    for candle in past:
        bot.hear(candle)
    assert bot.said(Signal) == []
    bot.hear(newest)

    (signal,) = bot.said(Signal)
    assert signal.reason == str(11 / 3)


def test_before_it_is_warm_a_plugin_is_not_heard(make_bot: Any) -> None:
    bot = make_bot({"candles.py": CANDLES}).ready()
    for candle in bot.closed_candles([1.0, 2.0]):
        bot.hear(candle)

    assert bot.said(Signal) == []
    assert {market.symbol for market in bot.loop.lifecycle.slots.cold_markets()} == {"BTC/USDT", "ETH/USDT"}


def test_an_unfinished_candle_feeds_nothing(make_bot: Any) -> None:
    bot = make_bot({"candles.py": CANDLES}).ready()
    for candle in bot.closed_candles([1.0, 2.0, 3.0]):
        bot.hear(msgspec.structs.replace(candle, closed=False))

    assert bot.loop.provider.run_length(bot.loop.provider.markets[0]) == 0


def test_a_hole_makes_a_plugin_cold_and_filling_it_warm_with_the_right_value(make_bot: Any) -> None:
    bot = make_bot({"candles.py": CANDLES}).ready()
    closes = bot.closed_candles([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    for candle in (*closes[:3], *closes[4:5]):
        bot.hear(candle)
    assert BTC in bot.loop.lifecycle.slots.cold_markets()
    market = bot.loop.provider.markets[0]
    bot.loop.provider.add_history(market, closes[3:4])
    bot.hear(closes[5])

    (signal,) = bot.said(Signal)
    assert signal.reason == str(5.0)


def test_a_signal_names_the_version_that_made_it_and_the_order_all_of_them(make_bot: Any) -> None:
    bot = make_bot().ready()
    bot.tick(50_000, word=1)

    version = hashlib.sha256(OBEDIENT.encode()).hexdigest()[:12]
    (signal,), (order,) = bot.said(Signal), bot.orders
    assert (signal.version, signal.shadow) == (version, False)
    assert order.made_by == bot.said(Decision)[-1].made_by == (f"obedient@{version}",)
    bot.filled(order, 50_000)
    bot.tick(40_000)  # the stop-loss: the position is still theirs
    assert bot.orders[-1].reduce_only
    assert bot.orders[-1].made_by == order.made_by


def test_a_plugin_in_shadow_is_recorded_and_moves_nothing(make_bot: Any) -> None:
    bot = make_bot(settings={"obedient": {"mode": "shadow"}}).ready()
    bot.tick(50_000, word=1)

    (signal,) = bot.said(Signal)
    assert signal.shadow
    assert bot.said(Decision) == []
    assert bot.loop.consensus.score(BTC) == 0


def test_decisions_wait_for_the_slowest_that_has_a_say_and_follow_events_and_names(make_bot: Any) -> None:
    bot = make_bot({f"{name}.py": OBEDIENT.replace('"obedient"', f'"{name}"') for name in "ab"}, min_opinions=2).ready()
    slow = bot.workers.made["a"]
    slow.waiting = []
    bot.tick(50_000, word=1)
    assert bot.said(Signal) == []
    slow.answer()

    assert [signal.strategy for signal in bot.said(Signal)] == ["a", "b"]
    assert len(bot.orders) == 1
    assert bot.denials == []


def test_who_is_late_is_not_waited_for_until_it_has_caught_up(make_bot: Any) -> None:
    bot = make_bot({f"{name}.py": OBEDIENT.replace('"obedient"', f'"{name}"') for name in "ab"}).ready()
    slow = bot.workers.made["a"]
    slow.waiting = []
    bot.tick(50_000, word=1)
    bot.turns.pass_time(PATIENCE_S)
    assert [signal.strategy for signal in bot.said(Signal)] == ["b"]
    bot.tick(50_000, word=2)
    assert [signal.strategy for signal in bot.said(Signal)] == ["b", "b"]
    slow.answer()
    assert [signal.strategy for signal in bot.said(Signal)] == ["b", "b", "a", "a"]
    assert bot.loop.plugins.late_answers == 2
    slow.waiting = []
    bot.tick(50_000, word=1)
    assert len(bot.said(Signal)) == 4  # waited for again


def test_wrong_settings_keep_a_plugin_from_running_and_say_which(make_bot: Any) -> None:
    bot = make_bot(PLUGINS, {"sma": {"settings": {"fast_period": 30, "slow_perod": 20}}, "no_such": {}})

    alerts = {alert.code: alert.text for alert in bot.said(Alert)}
    assert "plugin sma: slow_perod: unknown setting" in alerts["PLUGIN_BROKEN"]
    assert "bot.plugins.no_such is configured, but no file" in alerts["PLUGIN_MISSING"]
    assert {slot.name for slot, _ in bot.loop.lifecycle.slots.running()} == {"ema", "rsi", "bollinger_bands"}


def test_a_plugin_that_is_off_in_the_configuration_does_not_run(make_bot: Any) -> None:
    bot = make_bot(None, {"obedient": {"mode": "off"}}).ready()
    bot.tick(50_000, word=1)

    assert bot.said(Signal) == []
    assert bot.said(Alert) == []
    assert bot.said(PluginStatus)[-1].state is PluginState.DISABLED


def test_plugins_say_what_they_want_to_hear_and_to_have_kept(make_bot: Any) -> None:
    bot = make_bot(PLUGINS, {"sma": {"settings": {"source": "trades"}}})
    wanted: set[str] = set()
    bot.loop.host.wants = wanted.update
    bot.loop.lifecycle.workers_died()
    bot.look()

    assert wanted == {"on_ticker", "on_trade", "on_candle"}
    assert bot.loop.host.bars_needed == 26
