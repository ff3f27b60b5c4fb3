"""Is everything all right? The first look, made for a phone: numbers first, each leading to the board behind it."""

# ruff: noqa: S608 - Grafana's macros and our own names are put into the SQL, never a value

from __future__ import annotations

from monitoring.dashboards.board import Board
from monitoring.dashboards.panels import ANY_IS_BAD, ANY_IS_ODD, EARNED, graph, listing, number, timeline
from monitoring.dashboards.queries import MODE, VENUE, moment, now, over_time, records, rows, table

OURS = 'job=~"bot|recorder|alerts|supervisor|connector-.+|simulator-.+"'
PROCESS_STATES = {
    "1": ("ready", "green"),
    "0.5": ("not ready", "yellow"),
    "0": ("down", "red"),
}
TRADING = {"0": ("trading", "green"), "1": ("paused", "orange"), "2": ("HALTED", "red")}
LEVEL_WORDS = {
    "critical": ("critical", "dark-red"),
    "error": ("error", "red"),
    "warning": ("warning", "orange"),
    "info": ("info", "blue"),
}


def board() -> Board:
    return (
        Board("overview", "Overview", "The whole fleet at one glance.", shows=("mode", "venue"))
        .section(
            "",
            number(
                "Trading",
                "The emergency stop halts everything but reductions, a pause only new entries.",
                now(
                    f"2 * max(tradebot_emergency_stop{{{VENUE}}} or tradebot_bot_halted{{{VENUE}}}) > 0"
                    f" or max(tradebot_bot_entries_paused{{{VENUE}}})"
                ),
                words=TRADING,
                empty="no bot",
                to="strategies",
            ),
            number(
                "Processes not ready",
                "Processes that Prometheus cannot reach, or that say themselves that they are not ready.",
                now(f"count(up{{{OURS}}} == 0 or tradebot_ready{{{MODE}}} == 0) or vector(0)"),
                levels=ANY_IS_BAD,
                to="system",
            ),
            number(
                "Alerts firing",
                "Prometheus' rules of a severity above info that fire now; docs/operations.md says what to do.",
                now('count(ALERTS{alertstate="firing",severity!="info"}) or vector(0)'),
                levels=ANY_IS_BAD,
                to="system",
            ),
            number(
                "Equity",
                "Quote balance plus our positions at the mark, of all chosen venues, in quote currency.",
                now(f"sum(tradebot_equity{{{VENUE}}})"),
                unit="locale",
                decimals=2,
                to="portfolio",
            ),
            number(
                "Profit",
                "Realised and unrealised profit after fees since the bot's book began, in quote currency.",
                now(f"sum(tradebot:pnl:sum{{{VENUE}}})"),
                unit="locale",
                levels=EARNED,
                decimals=2,
                to="portfolio",
            ),
            number(
                "Drawdown",
                "How far equity is below its highest of a day.",
                now(f"max(tradebot:drawdown:ratio1d{{{VENUE}}})"),
                unit="percentunit",
                levels=((0.05, "orange"), (0.1, "red")),
                decimals=2,
                to="portfolio",
            ),
            number(
                "Unknown orders",
                "Orders of which nobody knows whether the venue has them; their whole exposure stays reserved.",
                now(f"sum(tradebot_orders_unknown{{{VENUE}}})"),
                levels=ANY_IS_BAD,
                to="orders",
            ),
            number(
                "Open orders",
                "Orders that are not at an end.",
                now(f"sum(tradebot_orders_unfinished{{{VENUE}}})"),
                to="orders",
            ),
            number(
                "Oldest market data",
                "The subscription that has been silent for longest.",
                now(f"max(tradebot_feed_stale_seconds{{{VENUE}}})"),
                unit="s",
                levels=((10, "orange"), (30, "red")),
                decimals=1,
                to="venues",
            ),
            number(
                "Slowest reader",
                "Age of the oldest message that some consumer group has not finished.",
                now(f"max(tradebot_bus_group_lag_seconds{{{MODE}}})"),
                unit="s",
                levels=((1, "orange"), (10, "red")),
                decimals=1,
                to="bus",
            ),
            number(
                "Event to order, p99",
                "From the frame that moved us to the signed order on the venue's socket, over five minutes.",
                now(f'max(tradebot:hop_seconds:p99{{{VENUE},hop="event_to_wire"}} > 0)'),
                unit="s",
                levels=((0.05, "orange"), (0.5, "red")),
                empty="no order",
                to="orders",
            ),
            number(
                "Dead letters",
                "Messages that no consumer could handle and that wait for a person: tradebot bus dead-letters.",
                now(f"sum(tradebot_bus_dead_letters{{{MODE}}})"),
                levels=ANY_IS_ODD,
                to="bus",
            ),
        )
        .section(
            "What is wrong",
            listing(
                "Rules, firing and pending",
                "Prometheus' rules that are pending or fire, without the watchdog, which always does.",
                rows('max by (alertname, severity, alertstate, job, exchange) (ALERTS{alertname!="Watchdog"})'),
                words={"severity": LEVEL_WORDS},
                hidden=("Time", "Value"),
                empty="no alert",
                height=7,
            ),
            listing(
                "Open alerts",
                "What people were told and is not over, the newest first; /ack ID on Telegram takes note of it.",
                records(f"""
                    SELECT {moment("last_ns")} AS "when", level, title, count AS times, phase, alert_id AS id
                    FROM {table("alert_states")}
                    WHERE phase <> 'resolved' AND level <> 'info'
                    ORDER BY last_ns DESC
                    LIMIT 20
                """),
                words={"level": LEVEL_WORDS},
                empty="no alert",
                height=7,
            ),
        )
        .section(
            "How it runs",
            timeline(
                "Processes",
                "Whether each process was ready, not ready, or could not be reached.",
                over_time(
                    f"min by (job) (tradebot_ready{{{MODE}}} * 0.5 + 0.5) or min by (job) (up{{{OURS}}})",
                    "{{job}}",
                ),
                words=PROCESS_STATES,
                height=9,
            ),
            graph(
                "Events",
                "Messages a second on the bus, by stream.",
                over_time(f"sum by (stream) (tradebot:events:rate1m{{{MODE}}}) > 0", "{{stream}}"),
                unit="msg/s",
                stacked=True,
                height=9,
            ),
            graph(
                "Equity over time",
                "Quote balance plus our positions at the mark, in quote currency.",
                over_time(f"sum by (exchange, quote) (tradebot_equity{{{VENUE}}})", "{{exchange}} {{quote}}"),
                unit="locale",
                floor=None,
            ),
            graph(
                "Event to order",
                "From the frame that moved us to the signed order on the venue's socket; median and slowest hundredth.",
                over_time(f'max by (exchange) (tradebot:hop_seconds:p50{{{VENUE},hop="event_to_wire"}})', "p50 {{exchange}}"),
                over_time(f'max by (exchange) (tradebot:hop_seconds:p99{{{VENUE},hop="event_to_wire"}})', "p99 {{exchange}}"),
                unit="s",
                levels=((0.05, "orange"), (0.5, "red")),
            ),
        )
    )
