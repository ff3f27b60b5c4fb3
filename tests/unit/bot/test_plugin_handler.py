"""Plugins are loaded from files, warmed up, attributed, and switched off for their own faults only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.plugin_loader import load_plugin, load_plugins
from common_models import Alert, Signal
from runtime.settings import PluginSettings

SECOND_NS = 1_000_000_000
PLUGINS = Path(__file__).resolve().parents[3] / "plugins"

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


def kind_of(text: str, folder: Path) -> Any:
    path = folder / "made_in_a_test.py"
    path.write_text(text)
    return load_plugin(path, folder).kind


def test_a_failing_plugin_is_switched_off_and_the_others_go_on(make_bot: Any, tmp_path: Path) -> None:
    bot = make_bot().ready()
    bot.loop.plugins.add(kind_of(FAILING, tmp_path), PluginSettings())
    for _ in range(8):
        bot.tick(50_000, word=1)

    assert bot.loop.plugins.errors == 5
    (alert,) = bot.said(Alert)
    assert (alert.code, alert.numbers) == ("PLUGIN_DISABLED", {"plugin": "failing"})
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
    assert bot.loop.plugins.errors == 1


def test_the_opinion_of_a_plugin_that_was_switched_off_counts_no_more(make_bot: Any) -> None:
    bot = make_bot().ready()
    bot.tick(50_000, word=1)
    bot.loop.plugins.disable("obedient", "test")

    assert bot.loop.consensus.score(bot.loop.provider.markets[0]) == 0


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
    assert [name for name, _ in bot.loop.plugins.cold()] == ["candles", "candles"]


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
    assert bot.loop.plugins.cold()
    market = bot.loop.provider.markets[0]
    bot.loop.provider.add_history(market, closes[3:4])
    bot.hear(closes[5])

    (signal,) = bot.said(Signal)
    assert signal.reason == str(5.0)


def test_broken_files_are_told_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "syntax.py").write_text("x = 1\ny = = 2\n")
    (tmp_path / "exits.py").write_text("import sys\n\nsys.exit(3)\n")
    (tmp_path / "nothing.py").write_text("")
    (tmp_path / "wrong.py").write_text("PLUGIN = 5\n")
    (tmp_path / "callback.py").write_text("from strategy import Plugin\n\nclass P(Plugin):\n    def on_tick(self, e): ...\n")
    (tmp_path / "good.py").write_text(FAILING)
    (tmp_path / "twice.py").write_text(FAILING)
    (tmp_path / "_ignored.py").write_text("raise RuntimeError")
    before = (list(sys.path), set(sys.modules))
    loaded, broken = load_plugins(tmp_path)

    assert [plugin.path.name for plugin in loaded] == ["good.py"]
    reasons = {one.path.name: one.reason for one in broken}
    assert set(reasons) == {"syntax.py", "exits.py", "nothing.py", "wrong.py", "callback.py", "twice.py"}
    assert "syntax.py:2: SyntaxError" in reasons["syntax.py"]
    assert "exits.py:3: SystemExit" in reasons["exits.py"]
    assert "on_tick is no callback; there are on_book, on_candle, on_ticker, on_trade" in reasons["callback.py"]
    assert sys.path == before[0]
    assert "tradebot_plugin_files.exits" not in sys.modules


def test_wrong_settings_switch_a_plugin_off_and_say_which(make_bot: Any) -> None:
    bot = make_bot(PLUGINS, {"sma": {"settings": {"fast_period": 30, "slow_perod": 20}}, "no_such": {}})

    alerts = {alert.code: alert.text for alert in bot.said(Alert)}
    assert "plugin sma: slow_perod: unknown setting" in alerts["PLUGIN_DISABLED"]
    assert "bot.plugins.no_such is configured, but no file" in alerts["PLUGIN_MISSING"]
    assert {name for name, slot in bot.loop.plugins.slots.items() if slot.instances} == {"ema", "rsi", "bollinger_bands"}


def test_a_plugin_that_is_disabled_in_the_configuration_does_not_run(make_bot: Any) -> None:
    bot = make_bot(None, {"obedient": {"enabled": False}}).ready()
    bot.tick(50_000, word=1)

    assert bot.said(Signal) == []
    assert bot.said(Alert) == []


def test_only_streams_that_somebody_wants_are_read(make_bot: Any) -> None:
    bot = make_bot(PLUGINS, {"sma": {"settings": {"source": "trades"}}})
    names = [stream.name.rpartition(":")[2] for stream in bot.loop.market_streams]

    assert names == ["instruments", "candles", "tickers", "trades", "control"]
    assert bot.loop.bars_needed == 26
    starts = bot.loop.read_from
    assert starts["simulation:events:{binance}:candles"] == "0"
    assert starts["simulation:events:{binance}:tickers"] == "$"
