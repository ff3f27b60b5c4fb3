"""The processes themselves, and what people were told."""

# ruff: noqa: S608 - Grafana's macros and our own names are put into the SQL, never a value

from __future__ import annotations

from monitoring.dashboards.board import Board
from monitoring.dashboards.overview import LEVEL_WORDS, OURS
from monitoring.dashboards.panels import ANY_IS_ODD, LOWEST, NO_YES, graph, listing, number, spread, timeline
from monitoring.dashboards.queries import (
    MODE,
    buckets,
    during,
    increase,
    moment,
    now,
    over_time,
    rate,
    records,
    rows,
    series,
    slot,
    table,
)

STATES = ("ready", "starting", "restarting", "stopped", "failed", "done")


def board() -> Board:
    about = "Processes, memory, CPU, disk; alerts, their delivery and what operators did."
    return (
        Board(
            "system",
            "System and alerts",
            about,
            shows=("mode",),
        )
        .section(
            "",
            number(
                "Restarts",
                "Times in the chosen time that the supervisor started a process again.",
                now(f"sum({increase('tradebot_process_restarts_total')})"),
                levels=ANY_IS_ODD,
                decimals=0,
                empty="no supervisor",
            ),
            number(
                "Memory",
                "Memory of all processes together (shared pages counted in each).",
                now(f"sum(process_resident_memory_bytes{{{OURS}}})"),
                unit="bytes",
            ),
            number(
                "CPU",
                "Cores in use by all processes together, over the last minutes.",
                now(f"sum(rate(process_cpu_seconds_total{{{OURS}}}[$__rate_interval]))"),
                decimals=2,
            ),
            number(
                "Disk free",
                "Room where the processes keep their state.",
                now(f"min(tradebot_home_free_bytes{{{MODE}}} / tradebot_home_size_bytes{{{MODE}}})"),
                unit="percentunit",
                levels=((LOWEST, "red"), (0.05, "orange"), (0.15, "green")),
                decimals=0,
            ),
            number(
                "Open alerts",
                "Alerts neither resolved nor acknowledged.",
                now(f"sum(tradebot_alerts_open{{{MODE}}})"),
                levels=ANY_IS_ODD,
                empty="no alerts process",
            ),
            number(
                "Undelivered",
                "Messages that wait in the outbox of a channel.",
                now(f"sum(tradebot_alerts_waiting{{{MODE}}})"),
                levels=ANY_IS_ODD,
                empty="no channel",
            ),
        )
        .section(
            "Alerts",
            graph(
                "Alerts by level",
                "Troubles by the interval in which they began.",
                series(f"""
                    SELECT {slot("first_ns")} AS time, level AS metric, count(*) AS value
                    FROM {table("alert_states")}
                    WHERE {during("last_ns")}
                    GROUP BY 1, 2
                    ORDER BY 1
                """),
                bars=True,
                stacked=True,
            ),
            graph(
                "Delivery",
                "Messages a minute: taken by a channel, failed attempts, and those not sent with the reason.",
                over_time(f"sum by (channel) ({rate('tradebot_alerts_delivered_total')}) * 60", "{{channel}}"),
                over_time(f"sum by (channel) ({rate('tradebot_alerts_failed_total')}) * 60", "{{channel}} failed"),
                over_time(f"sum by (reason) ({rate('tradebot_alerts_suppressed_total')}) * 60", "not sent: {{reason}}"),
            ),
            listing(
                "History of alerts",
                "Troubles of the chosen time, from first to last telling, and who ended or acknowledged them.",
                records(f"""
                    SELECT {moment("last_ns")} AS "when", level, title, count AS times, phase, changed_by AS "by",
                    (last_ns - first_ns) / 1e9 AS lasted, code, source
                    FROM {table("alert_states")}
                    WHERE {during("last_ns")}
                    ORDER BY last_ns DESC
                    LIMIT 200
                """),
                words={"level": LEVEL_WORDS},
                units={"lasted": "s"},
                empty="no alert",
            ),
            listing(
                "Messages",
                "What became of each message at each channel.",
                records(f"""
                    SELECT {moment("created_ns")} AS "when", level, title, channel, outcome, attempts,
                    (done_ns - created_ns) / 1e9 AS took
                    FROM {table("alert_deliveries")}
                    WHERE {during("created_ns")}
                    ORDER BY created_ns DESC
                    LIMIT 200
                """),
                words={"level": LEVEL_WORDS},
                units={"took": "s"},
                empty="no message",
            ),
            listing(
                "What operators did",
                "Control messages: who halted, resumed, paused or steered what, and why.",
                records(f"""
                    SELECT {moment("created_at_ns")} AS "when", actor, action, coalesce(target, 'everything') AS target, reason
                    FROM {table("controls")}
                    WHERE {during("created_at_ns")}
                    ORDER BY created_at_ns DESC
                    LIMIT 100
                """),
                empty="nothing",
            ),
            graph(
                "Oldest undelivered message",
                "Age of the oldest message in the outbox of each channel.",
                over_time(f"max by (channel) (tradebot_alerts_waiting_age_seconds{{{MODE}}})", "{{channel}}"),
                unit="s",
                levels=((60, "orange"), (600, "red")),
                height=9,
            ),
            graph(
                "Alerts taken in",
                "Alerts a minute from the bus, from rules and from Alertmanager.",
                over_time(f"sum by (level) ({rate('tradebot_alerts_received_total')}) * 60", "{{level}}"),
            ),
            graph(
                "Telegram",
                "Updates a minute by what became of them: answered, denied, too old, seen before.",
                over_time(f"sum by (outcome) ({rate('tradebot_telegram_updates_total')}) * 60", "{{outcome}}"),
            ),
        )
        .section(
            "Processes",
            timeline(
                "As the supervisor sees them",
                "The state of each process of tradebot up.",
                over_time(
                    " or ".join(
                        f'max by (process) (tradebot_process_state{{{MODE},state="{state}"}} == 1) * {place}'
                        for place, state in enumerate(STATES)
                    ),
                    "{{process}}",
                ),
                words={
                    "0": ("ready", "green"),
                    "1": ("starting", "yellow"),
                    "2": ("restarting", "red"),
                    "3": ("stopped", "text"),
                    "4": ("failed", "dark-red"),
                    "5": ("done", "blue"),
                },
                height=9,
            ),
            listing(
                "What runs",
                "The version of each process.",
                rows(f"max by (job, service, version) (tradebot_build_info{{{MODE}}})"),
                hidden=("Time", "Value"),
                empty="no process",
            ),
            graph(
                "CPU by process",
                "Cores in use by each process.",
                over_time(f"sum by (job) (rate(process_cpu_seconds_total{{{OURS}}}[$__rate_interval]))", "{{job}}"),
                stacked=True,
            ),
            graph(
                "Memory by process",
                "Memory of each process.",
                over_time(f"max by (job) (process_resident_memory_bytes{{{OURS}}})", "{{job}}"),
                unit="bytes",
                stacked=True,
            ),
            graph(
                "Delay of the event loop",
                "How late the event loop ran: the slowest hundredth of each process.",
                over_time(f"tradebot:event_loop_delay_seconds:p99{{{MODE}}}", "{{job}}"),
                unit="s",
                levels=((0.05, "orange"), (0.5, "red")),
            ),
            spread(
                "Delay of all event loops",
                "How the delays of the event loops lie.",
                buckets(f"sum by (le) ({rate('tradebot_event_loop_delay_seconds_bucket')})"),
                unit="s",
                height=8,
            ),
            timeline(
                "Parts",
                "Whether each part that a process's readiness depends on was well.",
                over_time(f"min by (job, component) (tradebot_component_ok{{{MODE}}})", "{{job}} {{component}}"),
                words=NO_YES,
                height=10,
            ),
            graph(
                "Open files",
                "File descriptors in use, as a share of what each process may have.",
                over_time(f"max by (job) (process_open_fds{{{OURS}}} / process_max_fds{{{OURS}}})", "{{job}}"),
                unit="percentunit",
                levels=((0.8, "red"),),
                height=10,
            ),
        )
    )
