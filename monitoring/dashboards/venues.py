"""Can the market data be trusted? Connections, silence, gaps, clocks, request budgets, and what the stored prices look like."""

# ruff: noqa: S608 - Grafana's macros and our own names are put into the SQL, never a value

from __future__ import annotations

from monitoring.dashboards.board import Board
from monitoring.dashboards.panels import ANY_IS_BAD, ANY_IS_ODD, LOWEST, NO_YES, gauges, graph, listing, number, timeline
from monitoring.dashboards.queries import (
    PAIR,
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

LEG_STATES = {
    "connected": ("connected", "green"),
    "connecting": ("connecting", "yellow"),
    "reconciling": ("reconciling", "yellow"),
    "reconnecting": ("reconnecting", "orange"),
    "stale": ("stale", "orange"),
    "stopped": ("stopped", "red"),
}
LEG_NUMBERS = {str(place): words for place, words in enumerate(LEG_STATES.values(), start=1)}
MARKET = f"{chosen('exchange', 'venue')} AND {chosen('symbol', 'pair')}"


def board() -> Board:
    about = "Connections to the venues and the quality of what they send."
    return (
        Board("venues", "Venues and data quality", about, shows=("mode", "venue", "pair"))
        .section(
            "",
            number(
                "Market data",
                "Whether the market-data socket is open and subscribed.",
                now(f"min(tradebot_feed_connected{{{VENUE}}})"),
                words={"0": ("down", "red"), "1": ("connected", "green")},
                empty="no connector",
            ),
            number(
                "Longest silence",
                "The subscription that has been silent for longest.",
                now(f"max(tradebot_feed_stale_seconds{{{PAIR}}})"),
                unit="s",
                levels=((10, "orange"), (30, "red")),
                decimals=1,
            ),
            number(
                "Unhealed gaps",
                "Gap messages in the chosen time whose data could not be fetched later.",
                now(f'sum(increase(tradebot_feed_gaps_total{{{VENUE},healed="false"}}[$__range])) or vector(0)'),
                levels=ANY_IS_ODD,
                decimals=0,
            ),
            number(
                "Invalid order books",
                "Order books that must not be used now.",
                now(f"count(tradebot_book_valid{{{PAIR}}} == 0) or vector(0)"),
                levels=ANY_IS_BAD,
            ),
            number(
                "Clock offset",
                "The venue's clock minus ours, the largest of the chosen venues; beyond the receive window orders are refused.",
                now(f"max(abs(tradebot_clock_offset_seconds{{{VENUE}}}))"),
                unit="s",
                levels=((0.5, "orange"), (1, "red")),
            ),
            number(
                "Request budget left",
                "The smallest share of a request budget that is left in its present window.",
                now(f"min(tradebot:rate_left:ratio{{{VENUE}}})"),
                unit="percentunit",
                levels=((LOWEST, "red"), (0.2, "orange"), (0.5, "green")),
            ),
        )
        .section(
            "Connections",
            timeline(
                "Legs",
                "What each connection of a connector reported: market data, orders, account events.",
                series(f"""
                    SELECT {moment("ts_recv_ns")} AS time, exchange || ' ' || leg AS metric,
                    array_position(ARRAY{list(LEG_STATES)}, state) AS value
                    FROM {table("connector_status")}
                    WHERE {chosen("exchange", "venue")} AND {during("ts_recv_ns")}
                    ORDER BY ts_recv_ns
                """),
                words=LEG_NUMBERS,
            ),
            timeline(
                "Order books",
                "Whether each order book may be used.",
                over_time(f"min by (exchange, symbol) (tradebot_book_valid{{{PAIR}}})", "{{exchange}} {{symbol}}"),
                words={"0": ("invalid", "red"), "1": ("valid", "green")},
            ),
            graph(
                "Silence of each subscription",
                "Seconds since a subscription last spoke; the connector opens a new socket when all are silent for stale_after_s.",
                over_time(f"max by (symbol, channel) (tradebot_feed_stale_seconds{{{PAIR}}})", "{{symbol}} {{channel}}"),
                unit="s",
                levels=((30, "red"),),
            ),
            graph(
                "Frames",
                "Messages a second from the market-data sockets: taken, unreadable, seen before.",
                over_time(f"sum by (exchange) ({rate('tradebot_frames_total', VENUE)})", "{{exchange}}"),
                over_time(f"sum by (exchange) ({rate('tradebot_frames_rejected_total', VENUE)})", "{{exchange}} unreadable"),
                over_time(f"sum by (exchange) ({rate('tradebot_frames_duplicate_total', VENUE)})", "{{exchange}} seen before"),
                unit="msg/s",
            ),
            graph(
                "New sockets",
                "Market-data sockets opened after the first, in each interval.",
                over_time(
                    f"sum by (exchange) (increase(tradebot_feed_reconnects_total{{{VENUE}}}[$__rate_interval]))", "{{exchange}}"
                ),
                bars=True,
            ),
            graph(
                "Venue to socket",
                "From the venue's time stamp to our socket, corrected by the clock offset; median and slowest hundredth.",
                over_time(f'tradebot:hop_seconds:p50{{{VENUE},hop="venue_to_socket"}}', "p50 {{exchange}}"),
                over_time(f'tradebot:hop_seconds:p99{{{VENUE},hop="venue_to_socket"}}', "p99 {{exchange}}"),
                unit="s",
                levels=((1, "orange"),),
            ),
        )
        .section(
            "Gaps",
            graph(
                "Gaps by stream",
                "Gap messages a second, fetched later (healed) or lost.",
                over_time(f"sum by (stream, healed) ({rate('tradebot_feed_gaps_total', VENUE)})", "{{stream}} healed: {{healed}}"),
                unit="msg/s",
            ),
            listing(
                "Latest gaps",
                "Data that was missed: where, why, how much, and whether it was fetched later.",
                records(f"""
                    SELECT {moment("to_ns")} AS "when", symbol, stream, reason, (to_ns - from_ns) / 1e9 AS length, count, healed
                    FROM {table("gaps")}
                    WHERE {chosen("exchange", "venue")} AND {during("to_ns")}
                    ORDER BY to_ns DESC
                    LIMIT 50
                """),
                units={"length": "s"},
                empty="no gap",
                height=8,
            ),
            graph(
                "Messages that readers missed",
                "Messages lost to a reader of the tail, or to the bot, because it fell behind.",
                over_time(f"sum by (reader, stream) ({rate('tradebot_bus_missed_messages_total')})", "{{reader}} {{stream}}"),
                over_time(f"sum({rate('tradebot_bot_missed_messages_total')})", "bot, all streams"),
                unit="msg/s",
            ),
            graph(
                "Holes being fetched",
                "Holes in the data that wait to be fetched by REST.",
                over_time(f"sum by (exchange) (tradebot_feed_holes_waiting{{{VENUE}}})", "{{exchange}}"),
                levels=((10, "orange"),),
            ),
        )
        .section(
            "Stored prices",
            graph(
                "Price",
                "Closes of the stored one-minute candles, against the first of the chosen time.",
                series(f"""
                    SELECT {moment("close_ns")} AS time, symbol AS metric,
                    (close / nullif(first_value(close) OVER market, 0) - 1)::float8 AS value
                    FROM {table("ohlcv")}
                    WHERE {MARKET} AND timeframe = '1m' AND {during("open_ns")}
                    WINDOW market AS (PARTITION BY exchange, symbol ORDER BY open_ns)
                    ORDER BY 1
                """),
                unit="percentunit",
                floor=None,
            ),
            graph(
                "Width of the market",
                "Stored order books: best offer minus best bid, in hundredths of a percent of the bid.",
                series(f"""
                    SELECT {slot("ts_recv_ns")} AS time, symbol AS metric,
                    avg(((asks -> 0 ->> 0)::numeric / nullif((bids -> 0 ->> 0)::numeric, 0) - 1) * 10000)::float8 AS value
                    FROM {table("order_books")}
                    WHERE {MARKET} AND {during("ts_recv_ns")}
                    GROUP BY 1, 2
                    ORDER BY 1
                """),
                floor=None,
            ),
            graph(
                "Traded value",
                "Value traded in each interval by the stored one-minute candles, in quote currency.",
                series(f"""
                    SELECT {slot("open_ns")} AS time, symbol AS metric, sum(quote_volume)::float8 AS value
                    FROM {table("ohlcv")}
                    WHERE {MARKET} AND timeframe = '1m' AND {during("open_ns")}
                    GROUP BY 1, 2
                    ORDER BY 1
                """),
                bars=True,
                stacked=True,
            ),
            listing(
                "One-minute candles",
                "Candles stored in the chosen time, and how many are missing between the first and the last of them.",
                records(f"""
                    SELECT exchange, symbol, count(*) AS stored,
                    (max(open_ns) - min(open_ns)) / 60000000000 + 1 - count(*) AS missing, {moment("max(close_ns)")} AS "when"
                    FROM {table("ohlcv")}
                    WHERE {MARKET} AND timeframe = '1m' AND {during("open_ns")}
                    GROUP BY 1, 2
                    ORDER BY 1, 2
                """),
                height=8,
            ),
        )
        .section(
            "Requests and clocks",
            gauges(
                "Request budgets used",
                "Units used of each budget in its present window.",
                now(
                    f"max by (exchange, budget) (tradebot_rate_used{{{VENUE}}} / tradebot_rate_limit{{{VENUE}}})",
                    "{{exchange}} {{budget}}",
                ),
                unit="percentunit",
                levels=((0.5, "orange"), (0.8, "red")),
            ),
            graph(
                "HTTP requests",
                "Requests a second by host, those without a usable answer, and those that waited for room in the budget.",
                over_time(f"sum by (host) ({rate('tradebot_rest_requests_total')})", "{{host}}"),
                over_time(f"sum by (host) ({rate('tradebot_rest_failures_total')})", "{{host}} failed"),
                over_time(f"sum by (exchange) ({rate('tradebot_rate_waits_total', VENUE)})", "{{exchange}} waited"),
                unit="reqps",
            ),
            number(
                "Silence demanded",
                "How long the venue still wants silence (answers 429 and 418).",
                now(f"max(tradebot_rate_silence_seconds{{{VENUE}}})"),
                unit="s",
                levels=((0.001, "red"),),
                span=12,
            ),
            number(
                "Refusals",
                "In the chosen time: times the venue asked for silence, and requests whose time stamp it refused.",
                now(f"sum({increase('tradebot_rate_refusals_total', VENUE)})", "for their number"),
                now(f"sum({increase('tradebot_clock_refusals_total', VENUE)})", "for their time stamp"),
                levels=ANY_IS_ODD,
                decimals=0,
                span=12,
            ),
            graph(
                "Clocks",
                "The venue's clock minus ours, and the largest error of that measurement.",
                over_time(f"max by (exchange) (tradebot_clock_offset_seconds{{{VENUE}}})", "{{exchange}}"),
                over_time(f"max by (exchange) (tradebot_clock_bound_seconds{{{VENUE}}} < Inf)", "{{exchange}} bound"),
                unit="s",
                floor=None,
            ),
            timeline(
                "Market-data sockets",
                "Whether the market-data socket was open and subscribed.",
                over_time(f"min by (exchange) (tradebot_feed_connected{{{VENUE}}})", "{{exchange}}"),
                words=NO_YES,
                height=8,
            ),
        )
    )
