"""Which consumer groups a stream may not be trimmed ahead of: the janitor of the bus runs beside the recorder.

The recorder is a required reader of nearly everything: without its process there would be little to trim.
"""

from __future__ import annotations

from bus.janitor import Rule
from bus.streams import Streams
from runtime.settings import Settings

RECORDER, CONNECTOR, BOT, ALERTS = "recorder", "connector", "bot", "alerts"

RECORDER_AND_BOT = frozenset({RECORDER, BOT})
BOT_READS = ("orders", "fills", "balances", "status")
MB = 1024 * 1024


def rules_of(settings: Settings, streams: Streams) -> list[Rule]:
    """A rule for every stream of the enabled exchanges and for the shared ones; bounds are those of `settings.bus`."""
    lossless, trades = settings.bus.lossless_mb * MB, settings.bus.trades_mb * MB
    rules = [
        Rule(stream, frozenset({RECORDER}), lossless)
        for stream in (streams.signals, streams.decisions, streams.round_trips, streams.control)
    ]
    told = frozenset({RECORDER, ALERTS}) if settings.alerts.enabled else frozenset({RECORDER})
    rules.append(Rule(streams.alerts, told, lossless))
    rules.append(Rule(streams.dead_letters, frozenset(), lossless))
    rules.append(Rule(streams.plugins, frozenset({RECORDER}), lossless))
    for name, exchange in settings.exchanges.items():
        if not exchange.enabled:
            continue
        rules += [
            Rule(streams.market(name, kind), frozenset({RECORDER}), trades if kind == "trades" else lossless)
            for kind in Streams.MARKET_KINDS
        ]
        rules += [
            Rule(
                streams.account(name, exchange.account, kind),
                RECORDER_AND_BOT if kind in BOT_READS else frozenset({RECORDER}),
                lossless,
            )
            for kind in Streams.ACCOUNT_KINDS
        ]
        rules.append(Rule(streams.commands(name, exchange.account), frozenset({CONNECTOR}), lossless))
    return rules
