"""What the bot tells of itself while it trades, pauses and loses."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from bot.metrics import MAX_PLUGINS, BotMetrics
from common_models import ControlAction, OrderStatus, PluginState, PluginStatus
from runtime.metrics import Metrics
from tests.support.exposition import fresh_process, samples, value

BOOK = {"exchange": "binance", "quote": "USDT"}
POSITION = {"exchange": "binance", "symbol": "BTC/USDT", "strategy": "consensus"}


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    monkeypatch.setattr("bot.metrics.REUSE_S", 0.0)
    return fresh_process(monkeypatch)


def status(name: str, state: PluginState = PluginState.RUNNING, **fields: Any) -> PluginStatus:
    return PluginStatus(name=name, path=f"{name}.py", state=state, ts_event_ns=1, **fields)


def test_a_purchase_shows_in_counts_hops_and_money(process: Metrics, make_bot: Any) -> None:
    bot = make_bot(position_size_percentage=10, take_profit_percentage=50).ready()
    read = partial(value, process)
    assert read("tradebot_equity", **BOOK) == 100_000
    assert read("tradebot_exposure", **BOOK) == 0
    bot.tick(50_000, word=1)

    assert read("tradebot_bot_signals_total", plugin="obedient", direction="buy", shadow="false") == 1
    assert read("tradebot_bot_decisions_total", exchange="binance", verdict="taken", code="ENTRY_CONSENSUS") == 1
    for hop in ("event_to_signal", "signal_to_decision", "decision_to_command"):
        assert read("tradebot_hop_seconds_count", hop=hop, exchange="binance") == 1
    assert read("tradebot_bot_orders_in_flight", exchange="binance") == 1
    assert read("tradebot_balance_reserved", **BOOK) > 9_000
    assert read("tradebot_risk_used", limit="open_trades") == 1

    bot.filled(bot.orders[-1], 50_000)
    bot.tick(51_000)
    assert read("tradebot_bot_orders_in_flight", exchange="binance") == 0
    assert read("tradebot_position_quantity", **POSITION) == pytest.approx(0.2, rel=0.01)
    assert read("tradebot_position_value", **POSITION) == pytest.approx(read("tradebot_exposure", **BOOK))
    assert read("tradebot_pnl_unrealised", **POSITION) == pytest.approx(200, rel=0.02)
    assert read("tradebot_fees", **POSITION) == pytest.approx(10, rel=0.01)
    assert read("tradebot_bot_fills_total") == 1


def test_the_drawdown_is_measured_from_the_highest_equity_that_was_seen(process: Metrics, make_bot: Any) -> None:
    bot = make_bot().ready()
    assert value(process, "tradebot_drawdown_ratio", **BOOK) == 0
    bot.told(bot.balance("USDT", "80000"))
    assert value(process, "tradebot_drawdown_ratio", **BOOK) == pytest.approx(0.2)
    bot.told(bot.balance("USDT", "120000"))
    assert value(process, "tradebot_drawdown_ratio", **BOOK) == 0
    assert value(process, "tradebot_equity_peak", **BOOK) == 120_000


def test_money_that_was_never_told_is_left_out_and_not_zero(process: Metrics, make_bot: Any) -> None:
    make_bot()
    assert ("tradebot_equity", frozenset(BOOK.items())) not in samples(process)


def test_a_denial_is_counted_each_time_and_timed_with_its_signal(process: Metrics, make_bot: Any) -> None:
    bot = make_bot(max_concurrent_trades=0).ready()
    for _ in range(3):
        bot.tick(50_000, word=3)
        bot.tick(50_000, word=1)
    denied = [labels for name, labels in samples(process) if name == "tradebot_bot_decisions_total"]
    assert ("code", "TRADES_AT_LIMIT") in {pair for labels in denied for pair in labels}
    weighed = value(process, "tradebot_hop_seconds_count", hop="signal_to_decision", exchange="binance")
    assert 0 < weighed <= 6  # a wish that is tried again by price is no answer to a signal
    assert value(process, "tradebot_hop_seconds_count", hop="decision_to_command", exchange="binance") == 0


def test_pause_and_halt_show(process: Metrics, make_bot: Any) -> None:
    bot = make_bot().ready()
    bot.control(ControlAction.PAUSE)
    bot.control(ControlAction.HALT)
    assert value(process, "tradebot_bot_entries_paused", exchange="binance") == 1
    assert value(process, "tradebot_bot_halted", exchange="binance") == 1
    bot.control(ControlAction.CONTINUE)
    bot.control(ControlAction.RESUME)
    assert value(process, "tradebot_bot_entries_paused", exchange="binance") == 0
    assert value(process, "tradebot_bot_halted", exchange="binance") == 0


def test_a_round_trip_is_counted_once_however_often_its_fill_comes(process: Metrics, make_bot: Any) -> None:
    bot = make_bot(stop_loss_percentage=1).ready()
    bot.bought(50_000)
    bot.tick(49_000)
    command = bot.orders[-1]
    fill = bot.fill(command, 49_000)
    for _ in range(2):
        bot.told(bot.update(command, OrderStatus.FILLED, command.quantity), fill)
    assert value(process, "tradebot_bot_round_trips_total", strategy="consensus", result="loss") == 1
    assert value(process, "tradebot_bot_positions", exchange="binance") <= 1


def test_a_plugin_is_in_one_state_and_its_version_is_named(process: Metrics, make_bot: Any) -> None:
    bot = make_bot()
    bot.loop.metrics.plugin(status("ema", events=7, errors=2, call_p99_us=1500, memory_bytes=4096, version="1f0c22aa9b3e"))
    states = {labels for name, labels in samples(process) if name == "tradebot_plugin_state" and ("plugin", "ema") in labels}
    assert len(states) == len(PluginState)
    assert sum(value(process, "tradebot_plugin_state", **dict(labels)) for labels in states) == 1
    assert value(process, "tradebot_plugin_state", plugin="ema", state="running") == 1
    assert value(process, "tradebot_plugin_info", plugin="ema", version="1f0c22aa9b3e", plugin_mode="off") == 1
    assert value(process, "tradebot_plugin_call_p99_seconds", plugin="ema") == pytest.approx(0.0015)
    assert value(process, "tradebot_plugin_errors_total", plugin="ema") == 2


def test_a_thousand_plugin_files_do_not_become_a_thousand_series() -> None:
    figures = BotMetrics(["binance"])
    figures.plugin(status("first"))
    for number in range(1000):
        figures.plugin(status(f"hostile{number}", PluginState.REMOVED if number % 2 else PluginState.QUARANTINED))
        figures.plugin(status("first"))
    assert len(figures._plugins) == MAX_PLUGINS
    assert "first" in figures._plugins
