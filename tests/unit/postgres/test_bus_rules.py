"""Whose reading a stream waits for before it is trimmed."""

from __future__ import annotations

from bus.streams import Streams
from postgres.bus_rules import MB, rules_of
from runtime.settings import Settings

STREAMS = Streams("simulation")
SETTINGS = Settings.model_validate(
    {
        "bus": {"trades_mb": 5, "lossless_mb": 7},
        "exchanges": {"binance": {"port": 1, "account": "second"}, "luno": {"port": 2, "enabled": False}},
    }
)


def test_every_stream_of_the_enabled_exchanges_has_one_rule() -> None:
    names = [rule.stream.name for rule in rules_of(SETTINGS, STREAMS)]
    wanted = {stream.name for stream in (*STREAMS.all_of("binance", "second"), *STREAMS.shared)} - {STREAMS.heartbeats.name}
    assert len(names) == len(set(names))
    assert set(names) == wanted


def test_commands_wait_for_the_connector_and_what_the_bot_reads_for_the_bot() -> None:
    required = {rule.stream.name: rule.required for rule in rules_of(SETTINGS, STREAMS)}
    assert required[STREAMS.commands("binance", "second").name] == {"connector"}
    assert required[STREAMS.account("binance", "second", "fills").name] == {"recorder", "bot"}
    assert required[STREAMS.account("binance", "second", "positions").name] == {"recorder"}
    assert required[STREAMS.decisions.name] == {"recorder"}


def test_alerts_wait_for_the_process_that_tells_people_when_there_is_one() -> None:
    without = SETTINGS.model_copy(update={"alerts": SETTINGS.alerts.model_copy(update={"enabled": False})})
    for settings, groups in ((SETTINGS, {"recorder", "alerts"}), (without, {"recorder"})):
        required = {rule.stream.name: rule.required for rule in rules_of(settings, STREAMS)}
        assert required[STREAMS.alerts.name] == groups


def test_trades_have_a_bound_of_their_own() -> None:
    bounds = {rule.stream.name: rule.max_bytes for rule in rules_of(SETTINGS, STREAMS)}
    assert bounds[STREAMS.market("binance", "trades").name] == 5 * MB
    assert bounds[STREAMS.signals.name] == 7 * MB
