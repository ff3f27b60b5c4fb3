"""What the plugins say, shadow and live, version by version, and what the bot makes of it."""

# ruff: noqa: S608 - Grafana's macros and our own names are put into the SQL, never a value

from __future__ import annotations

from monitoring.dashboards.board import Board
from monitoring.dashboards.panels import ANY_IS_ODD, graph, listing, number, timeline
from monitoring.dashboards.queries import (
    MODE,
    VENUE,
    chosen,
    during,
    increase,
    moment,
    now,
    over_time,
    rate,
    records,
    series,
    slot,
    table,
)

STATE_WORDS = {
    "running": ("running", "green"),
    "warming": ("warming", "yellow"),
    "checking": ("checking", "yellow"),
    "disabled": ("disabled", "text"),
    "removed": ("removed", "text"),
    "broken": ("broken", "red"),
    "quarantined": ("quarantined", "red"),
}
STATE_NUMBERS = {str(place): words for place, words in enumerate(STATE_WORDS.values())}
DIRECTION_WORDS = {"buy": ("buy", "green"), "sell": ("sell", "red"), "hold": ("hold", "text")}
VERDICT_WORDS = {"taken": ("taken", "green"), "denied": ("denied", "orange")}
PLUGIN = f'{MODE},plugin=~"$plugin"'
LIVE = f'{PLUGIN},shadow="false"'
SHADOW = f'{PLUGIN},shadow="true"'
TAKEN = f'{VENUE},verdict="taken"'
DENIED = f'{VENUE},verdict="denied"'
THINKING = f'{MODE},hop=~"event_to_signal|signal_to_decision|decision_to_command"'
SIGNALS = (
    f"{during('ts_event_ns')} AND {chosen('exchange', 'venue')} AND {chosen('symbol', 'pair')} AND {chosen('strategy', 'plugin')}"
)
DECISIONS = f"{during('ts_event_ns')} AND {chosen('exchange', 'venue')} AND {chosen('symbol', 'pair')}"
MINUTE_NS = 60_000_000_000
WHICH = "strategy || '@' || left(version, 7) || CASE WHEN shadow THEN ' shadow' ELSE ' live' END"


def board() -> Board:
    about = "Plugins, their signals in shadow and live by version, and the decisions that came of them."
    states = " or ".join(
        f'max by (plugin) (tradebot_plugin_state{{{PLUGIN},state="{state}"}} == 1) * {place}'
        for place, state in enumerate(STATE_WORDS)
    )
    return (
        Board("strategies", "Strategies and signals", about, shows=("mode", "venue", "pair", "plugin"), from_history=True)
        .section(
            "",
            number(
                "Running",
                "Plugins that run, live or in shadow.",
                now(f'sum(tradebot_plugin_state{{{PLUGIN},state="running"}})'),
                empty="no bot",
            ),
            number(
                "Broken or quarantined",
                "Plugins that cannot run or were ended because they hurt; tradebot plugin list says why.",
                now(f'sum(tradebot_plugin_state{{{PLUGIN},state=~"broken|quarantined"}})'),
                levels=((1, "red"),),
                empty="no bot",
            ),
            number(
                "Signals",
                "Signals in the chosen time.",
                now(f"sum({increase('tradebot_bot_signals_total', LIVE)})", "live"),
                now(f"sum({increase('tradebot_bot_signals_total', SHADOW)})", "shadow"),
                decimals=0,
            ),
            number(
                "Decisions",
                "Decisions in the chosen time: a command, or the gate that stopped it.",
                now(f"sum({increase('tradebot_bot_decisions_total', TAKEN)})", "taken"),
                now(f"sum({increase('tradebot_bot_decisions_total', DENIED)})", "denied"),
                decimals=0,
            ),
            number(
                "Failed callbacks",
                "Callbacks of plugins that failed in the chosen time.",
                now(f"sum({increase('tradebot_plugin_errors_total', PLUGIN)})"),
                levels=ANY_IS_ODD,
                decimals=0,
            ),
            number(
                "Failures of the bot",
                "In the chosen time: messages that a part of the bot failed on, and messages that the bus did not take.",
                now(f"sum({increase('tradebot_bot_handler_failures_total')})", "failed on"),
                now(f"sum({increase('tradebot_bot_unpublished_messages_total')})", "not taken"),
                levels=ANY_IS_ODD,
                decimals=0,
            ),
        )
        .section(
            "Plugins",
            listing(
                "As the bot told them last",
                "Every plugin file: state, mode, the version that runs (it begins the file's SHA-256) and what it says.",
                records(f"""
                    SELECT name, state, mode, left(version, 7) AS version, events, signals, errors,
                    call_p99_us / 1e6 AS "call p99", memory_bytes AS memory, heartbeat, reason
                    FROM {table("plugins")}
                    WHERE {chosen("name", "plugin")}
                    ORDER BY name
                """),
                words={"state": STATE_WORDS},
                units={"call p99": "s", "memory": "bytes"},
            ),
            timeline(
                "States",
                "The state that each plugin was in.",
                over_time(states, "{{plugin}}"),
                words=STATE_NUMBERS,
                height=9,
            ),
            graph(
                "Slowest hundredth of the callbacks",
                "Time of a plugin's slowest callbacks in its worker; past bot.worker.call_s it is ended.",
                over_time(f"max by (plugin) (tradebot_plugin_call_p99_seconds{{{PLUGIN}}})", "{{plugin}}"),
                unit="s",
                levels=((0.1, "orange"), (1, "red")),
            ),
            graph(
                "Memory",
                "Memory of each worker process; past bot.worker.memory_mb it is ended.",
                over_time(f"max by (plugin) (tradebot_plugin_memory_bytes{{{PLUGIN}}})", "{{plugin}}"),
                unit="bytes",
            ),
            graph(
                "Events handed to plugins",
                "Events a second that each plugin was handed.",
                over_time(f"sum by (plugin) ({rate('tradebot_plugin_events_total', PLUGIN)})", "{{plugin}}"),
                unit="msg/s",
            ),
            graph(
                "Errors",
                "Callbacks a minute that failed, by plugin.",
                over_time(f"sum by (plugin) ({rate('tradebot_plugin_errors_total', PLUGIN)}) * 60", "{{plugin}}"),
                bars=True,
            ),
        )
        .section(
            "Signals, shadow beside live",
            graph(
                "Live signals",
                "Signals in each interval that count in the consensus, by plugin and version.",
                series(f"""
                    SELECT {slot("ts_event_ns")} AS time, {WHICH} AS metric, count(*) AS value
                    FROM {table("signals")}
                    WHERE {SIGNALS} AND NOT shadow
                    GROUP BY 1, 2
                    ORDER BY 1
                """),
                bars=True,
                stacked=True,
            ),
            graph(
                "Shadow signals",
                "Signals in each interval that were recorded and moved nothing, by plugin and version.",
                series(f"""
                    SELECT {slot("ts_event_ns")} AS time, {WHICH} AS metric, count(*) AS value
                    FROM {table("signals")}
                    WHERE {SIGNALS} AND shadow
                    GROUP BY 1, 2
                    ORDER BY 1
                """),
                bars=True,
                stacked=True,
            ),
            graph(
                "Opinion",
                "Buy (1) to sell (-1), weighed by confidence and strength, averaged over each interval, by plugin and version.",
                series(f"""
                    SELECT {slot("ts_event_ns")} AS time, {WHICH} AS metric,
                    avg(CASE direction WHEN 'buy' THEN 1 WHEN 'sell' THEN -1 ELSE 0 END * confidence * strength) AS value
                    FROM {table("signals")}
                    WHERE {SIGNALS}
                    GROUP BY 1, 2
                    ORDER BY 1
                """),
                floor=-1,
            ),
            listing(
                "By version",
                "Signals in the chosen time: how often, how sure, and the price a minute later as seen from the signal's side"
                " (the close of the next whole minute against that of the signal's minute; before fees).",
                records(f"""
                    WITH said AS (
                    SELECT exchange, symbol, {WHICH} AS version, direction, confidence,
                    ts_event_ns / {MINUTE_NS} * {MINUTE_NS} AS minute
                    FROM {table("signals")}
                    WHERE {SIGNALS}
                    ORDER BY ts_event_ns DESC
                    LIMIT 20000)
                    SELECT version, count(*) AS signals, avg(confidence) AS confidence,
                    avg(CASE direction WHEN 'buy' THEN 1 WHEN 'sell' THEN -1 END * change)::float8 AS "a minute later"
                    FROM said
                    LEFT JOIN LATERAL (
                    SELECT max(close) FILTER (WHERE open_ns > minute)
                    / nullif(max(close) FILTER (WHERE open_ns = minute), 0) - 1 AS change
                    FROM {table("ohlcv")} o
                    WHERE (o.exchange, o.symbol, o.timeframe) = (said.exchange, said.symbol, '1m')
                    AND open_ns BETWEEN minute AND minute + {MINUTE_NS}) AS later ON true
                    GROUP BY 1
                    ORDER BY 1
                """),
                units={"confidence": "percentunit", "a minute later": "percentunit"},
                empty="no signal",
                height=8,
            ),
            listing(
                "Latest signals",
                "What the plugins said last, and why.",
                records(f"""
                    SELECT {moment("ts_event_ns")} AS "when", strategy AS plugin, symbol, direction, confidence, reason,
                    CASE WHEN shadow THEN 'shadow' ELSE 'live' END AS mode, left(version, 7) AS version
                    FROM {table("signals")}
                    WHERE {SIGNALS}
                    ORDER BY ts_event_ns DESC
                    LIMIT 50
                """),
                words={"direction": DIRECTION_WORDS},
                units={"confidence": "percentunit"},
                empty="no signal",
            ),
            graph(
                "Time to a signal",
                "From the event in the bot to the plugin's signal, and on to its decision and its command: the slowest hundredth.",
                over_time(
                    f"max by (hop) (tradebot:hop_seconds:p99{{{THINKING}}})",
                    "{{hop}}",
                ),
                unit="s",
                logarithmic=True,
                floor=None,
                height=9,
            ),
        )
        .section(
            "Decisions",
            graph(
                "Decisions by gate",
                "Decisions in each interval: what was taken, and the gate that stopped the rest.",
                series(f"""
                    SELECT {slot("ts_event_ns")} AS time, verdict || ' ' || code AS metric, count(*) AS value
                    FROM {table("decisions")}
                    WHERE {DECISIONS}
                    GROUP BY 1, 2
                    ORDER BY 1
                """),
                bars=True,
                stacked=True,
                height=9,
            ),
            listing(
                "Latest decisions",
                "What became of signals, with the numbers that were weighed.",
                records(f"""
                    SELECT {moment("ts_event_ns")} AS "when", symbol, direction, verdict, code, reason,
                    array_to_string(made_by, ', ') AS "made by"
                    FROM {table("decisions")}
                    WHERE {DECISIONS}
                    ORDER BY ts_event_ns DESC
                    LIMIT 50
                """),
                words={"direction": DIRECTION_WORDS, "verdict": VERDICT_WORDS},
                empty="no decision",
            ),
            graph(
                "Messages taken in",
                "Messages a second that the bot took in.",
                over_time(f"sum({rate('tradebot_bot_events_total')})", "events"),
                unit="msg/s",
            ),
            graph(
                "Orders on their way",
                "Orders of the bot that are not over, by venue.",
                over_time(f"sum by (exchange) (tradebot_bot_orders_in_flight{{{VENUE}}})", "{{exchange}}"),
                steps=True,
            ),
        )
    )
