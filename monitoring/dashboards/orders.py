"""What became of our orders, and how long each step took."""

# ruff: noqa: S608 - Grafana's macros and our own names are put into the SQL, never a value

from __future__ import annotations

from monitoring.dashboards.board import Board
from monitoring.dashboards.panels import ANY_IS_BAD, ANY_IS_ODD, NO_YES, graph, listing, number, spread, timeline
from monitoring.dashboards.queries import (
    MODE,
    VENUE,
    buckets,
    chosen,
    during,
    increase,
    moment,
    now,
    over_time,
    rate,
    records,
    table,
)

STATUS_WORDS = {
    "FILLED": ("FILLED", "green"),
    "PARTIALLY_FILLED": ("PARTIALLY_FILLED", "yellow"),
    "OPEN": ("OPEN", "blue"),
    "SENT": ("SENT", "blue"),
    "INTENT": ("INTENT", "blue"),
    "UNKNOWN": ("UNKNOWN", "red"),
    "REJECTED": ("REJECTED", "orange"),
    "EXPIRED": ("EXPIRED", "orange"),
    "CANCELED": ("CANCELED", "text"),
}
EVENT_TO_WIRE = f'{VENUE},hop="event_to_wire"'
WIRE_TO_ACK = f'{VENUE},hop="wire_to_ack"'
OURS = f"{chosen('exchange', 'venue')} AND {chosen('symbol', 'pair')}"


def board() -> Board:
    about = "The states of our orders and the latency of each hop from a venue's frame to a fill."
    return (
        Board("orders", "Orders and latency", about, shows=("mode", "venue", "pair"))
        .section(
            "",
            number(
                "Unknown",
                "Orders of which nobody knows whether the venue has them; their whole exposure stays reserved.",
                now(f"sum(tradebot_orders_unknown{{{VENUE}}})"),
                levels=ANY_IS_BAD,
            ),
            number(
                "Oldest unknown",
                "Age of the oldest order whose outcome is unknown.",
                now(f"max(tradebot_orders_unknown_age_seconds{{{VENUE}}})"),
                unit="s",
                levels=((5, "orange"), (60, "red")),
            ),
            number(
                "For a person",
                "Orders that only a person can decide: tradebot orders.",
                now(f"sum(tradebot_orders_operator_review{{{VENUE}}})"),
                levels=ANY_IS_BAD,
            ),
            number(
                "Open orders",
                "Orders that may still fill.",
                now(f"sum(tradebot_orders_unfinished{{{VENUE}}})"),
            ),
            number(
                "Fills",
                "Executions of our orders in the chosen time.",
                now(f"sum({increase('tradebot_fills_total', VENUE)})"),
                decimals=0,
            ),
            number(
                "Refused",
                "Share of the orders of a quarter of an hour that ended unsent or refused.",
                now(f"max(tradebot:orders_rejected:ratio15m{{{VENUE}}} >= 0)"),
                unit="percentunit",
                levels=((0.05, "orange"), (0.2, "red")),
                empty="no order",
            ),
        )
        .section(
            "Latency",
            graph(
                "Every hop, slowest hundredth",
                "The hops from the venue's clock to the fill over five minutes; docs/metrics.md says where each begins and ends.",
                over_time(f'max by (hop) (tradebot:hop_seconds:p99{{{MODE},exchange=~"$venue|"}})', "{{hop}}"),
                unit="s",
                logarithmic=True,
                floor=None,
                height=10,
            ),
            graph(
                "Every hop, median",
                "The same hops: half of the observations were faster.",
                over_time(f'max by (hop) (tradebot:hop_seconds:p50{{{MODE},exchange=~"$venue|"}})', "{{hop}}"),
                unit="s",
                logarithmic=True,
                floor=None,
                height=10,
            ),
            spread(
                "Event to order",
                "From the frame that moved us to the signed order on the venue's socket.",
                buckets(f"sum by (le) ({rate('tradebot_hop_seconds_bucket', EVENT_TO_WIRE)})"),
                unit="s",
            ),
            spread(
                "Order to answer",
                "From the written order to the venue's answer.",
                buckets(f"sum by (le) ({rate('tradebot_hop_seconds_bucket', WIRE_TO_ACK)})"),
                unit="s",
            ),
        )
        .section(
            "Orders",
            graph(
                "Open orders by state",
                "Orders by state.",
                over_time(f"sum by (status) (tradebot_orders{{{VENUE}}})", "{{status}}"),
                stacked=True,
                steps=True,
            ),
            graph(
                "Ended orders",
                "Orders a minute that came to an end, by how.",
                over_time(f"sum by (status) ({rate('tradebot_orders_finished_total', VENUE)}) * 60", "{{status}}"),
                stacked=True,
            ),
            graph(
                "Refused by cause",
                "Orders a minute that ended unsent or refused, by cause.",
                over_time(f"sum by (code) ({rate('tradebot_orders_rejected_total', VENUE)}) * 60", "{{code}}"),
                stacked=True,
            ),
            graph(
                "Requests",
                "A minute: commands taken, order requests written, those by the second way (REST), those without a usable answer.",
                over_time(f"sum({rate('tradebot_commands_total', VENUE)}) * 60", "commands"),
                over_time(f"sum({rate('tradebot_orders_sent_total', VENUE)}) * 60", "written"),
                over_time(f"sum({rate('tradebot_orders_second_way_total', VENUE)}) * 60", "by the second way"),
                over_time(f"sum({rate('tradebot_orders_doubted_total', VENUE)}) * 60", "without an answer"),
            ),
            listing(
                "Latest orders",
                "The orders that changed last, and the plugins that wanted them.",
                records(f"""
                    SELECT {moment("ts_recv_ns")} AS "when", symbol, side, status,
                    trim_scale(quantity) AS quantity,
                    trim_scale(round(filled_quote / nullif(filled_quantity, 0), 8)) AS "average price",
                    code, reason, array_to_string(made_by, ', ') AS "made by"
                    FROM {table("orders")}
                    WHERE {OURS} AND {during("ts_recv_ns")}
                    ORDER BY ts_recv_ns DESC
                    LIMIT 100
                """),
                words={"status": STATUS_WORDS},
                empty="no order",
            ),
            listing(
                "Open orders, one by one",
                "Orders that may still fill, whenever they began.",
                records(f"""
                    SELECT {moment("ts_recv_ns")} AS "when", symbol, side, status, trim_scale(quantity) AS quantity,
                    trim_scale(price) AS price, operator_review AS "for a person", client_order_id AS "order"
                    FROM {table("orders")}
                    WHERE {OURS} AND status IN ('INTENT', 'SENT', 'OPEN', 'PARTIALLY_FILLED', 'UNKNOWN')
                    ORDER BY ts_recv_ns
                    LIMIT 100
                """),
                words={"status": STATUS_WORDS},
                empty="no open order",
            ),
        )
        .section(
            "The account",
            timeline(
                "Ways to the venue",
                "orders: the way for orders; user_data: the push of account events.",
                over_time(f"min by (exchange, leg) (tradebot_account_leg_connected{{{VENUE}}})", "{{exchange}} {{leg}}"),
                words=NO_YES,
            ),
            timeline(
                "The one writer",
                "Whether the connector holds the lease of its account: only the holder sends orders.",
                over_time(f"min by (exchange) (tradebot_lease_held{{{VENUE}}})", "{{exchange}}"),
                words=NO_YES,
            ),
            graph(
                "Since the last comparison",
                "Seconds since orders, fills and balances were last compared with the venue's.",
                over_time(f"max by (exchange) (tradebot_reconciled_age_seconds{{{VENUE}}})", "{{exchange}}"),
                unit="s",
                levels=((180, "orange"), (600, "red")),
            ),
            graph(
                "Comparisons",
                "Comparisons a minute with the venue, by outcome, and UNKNOWN orders that one proved never placed.",
                over_time(f"sum by (outcome) ({rate('tradebot_reconciliations_total', VENUE)}) * 60", "{{outcome}}"),
                over_time(f"sum({rate('tradebot_reconcile_proofs_total', VENUE)}) * 60", "proved never placed"),
            ),
            number(
                "Oddities",
                "In the chosen time: reports that fit no order of ours, fills after the end, commands that came twice"
                " (dropped) or under a known id with other contents, unreadable pushes.",
                now(f"sum({increase('tradebot_orders_contradicted_total', VENUE)})", "no order of ours"),
                now(f"sum({increase('tradebot_late_fills_total', VENUE)})", "late fills"),
                now(f"sum({increase('tradebot_commands_duplicate_total', VENUE)})", "twice"),
                now(f"sum({increase('tradebot_commands_conflicting_total', VENUE)})", "conflicting"),
                now(f"sum({increase('tradebot_account_events_unreadable_total', VENUE)})", "unreadable"),
                levels=ANY_IS_ODD,
                decimals=0,
                span=12,
            ),
            number(
                "Journal",
                "Size of the account's journal, its epoch, and facts that the bus did not take at once in the chosen time.",
                now(f"sum(tradebot_journal_bytes{{{VENUE}}})", "bytes"),
                now(f"max(tradebot_lease_epoch{{{VENUE}}})", "epoch"),
                now(f"sum({increase('tradebot_account_messages_delayed_total', VENUE)})", "delayed"),
                decimals=0,
                span=12,
            ),
        )
    )
