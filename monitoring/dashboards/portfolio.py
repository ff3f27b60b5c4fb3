"""What we hold and what it earned, with every fill marked on the graphs."""

# ruff: noqa: S608 - Grafana's macros and our own names are put into the SQL, never a value

from __future__ import annotations

from monitoring.dashboards.board import Board
from monitoring.dashboards.panels import ANY_IS_ODD, EARNED, LOWEST, candles, gauges, graph, listing, number
from monitoring.dashboards.queries import BOOK, VENUE, chosen, during, moment, now, over_time, records, series, slot, table

OURS = f"{chosen('exchange', 'venue')} AND {chosen('symbol', 'pair')} AND {chosen('strategy', 'strategy')}"
SIDE_WORDS = {"buy": ("buy", "green"), "sell": ("sell", "red")}
CLOSED = f"""
    FROM {table("round_trips")}
    WHERE {OURS} AND {during("closed_ns")}
"""


def board() -> Board:
    about = "Equity, positions and profit after fees; fills are marked on every graph. Money is in quote currency."
    return (
        Board("portfolio", "Portfolio and PnL", about, shows=("mode", "venue", "pair", "strategy"), from_history=True, last="24h")
        .marks("Bought", "green", _fills("buy"))
        .marks("Sold", "red", _fills("sell"))
        .section(
            "",
            number(
                "Equity",
                "Quote balance plus our positions at the mark.",
                now(f"sum(tradebot_equity{{{VENUE}}})"),
                unit="locale",
                decimals=2,
            ),
            number(
                "Closed in this time",
                "Profit after fees of the positions that were closed in the chosen time.",
                records(f"SELECT coalesce(sum(profit), 0)::float8 AS profit {CLOSED}"),
                unit="locale",
                levels=EARNED,
                decimals=2,
            ),
            number(
                "Won",
                "Share of the positions closed in the chosen time that earned something after fees.",
                records(f"SELECT avg((profit > 0)::int)::float8 AS won {CLOSED}"),
                unit="percentunit",
                levels=((LOWEST, "red"), (0.4, "orange"), (0.5, "green")),
                empty="no trade",
            ),
            number(
                "Profit factor",
                "What the winners won for each unit that the losers lost, in the chosen time.",
                records(f"""
                    SELECT (coalesce(sum(profit) FILTER (WHERE profit > 0), 0)
                    / nullif(-sum(profit) FILTER (WHERE profit < 0), 0))::float8 AS factor
                    {CLOSED}
                """),
                levels=((LOWEST, "red"), (1, "green")),
                decimals=2,
                empty="no loss",
            ),
            number(
                "Drawdown",
                "How far equity is below its highest of a day.",
                now(f"max(tradebot:drawdown:ratio1d{{{VENUE}}})"),
                unit="percentunit",
                levels=((0.05, "orange"), (0.1, "red")),
                decimals=2,
            ),
            number(
                "Exposure",
                "Positions at the mark, each counted positive.",
                now(f"sum(tradebot_exposure{{{VENUE}}})"),
                unit="locale",
                decimals=2,
            ),
        )
        .section(
            "Profit",
            graph(
                "Equity over time",
                "Quote balance plus our positions at the mark.",
                over_time(f"sum by (exchange, quote) (tradebot_equity{{{VENUE}}})", "{{exchange}} {{quote}}"),
                over_time(f"max by (exchange, quote) (tradebot_equity_peak{{{VENUE}}})", "{{exchange}} {{quote}} peak"),
                unit="locale",
                floor=None,
            ),
            graph(
                "Profit of closed positions",
                "The running sum of the profit after fees of the positions that were closed in the chosen time.",
                series(f"""
                    SELECT {moment("closed_ns")} AS time, strategy AS metric,
                    (sum(profit) OVER (PARTITION BY strategy ORDER BY closed_ns, symbol))::float8 AS value
                    {CLOSED}
                    ORDER BY 1
                """),
                unit="locale",
                floor=None,
                steps=True,
            ),
            graph(
                "Profit of each position",
                "Realised and unrealised profit after fees, by strategy and pair, as the bot published it.",
                series(f"""
                    SELECT time, strategy || ' ' || symbol AS metric, value
                    FROM {table("positions")} p
                    CROSS JOIN LATERAL (
                    SELECT {slot("e.ts_recv_ns")} AS time,
                    (array_agg((e.realised + e.unrealised - e.fees)::float8 ORDER BY e.ts_recv_ns DESC))[1] AS value
                    FROM {table("position_events")} e
                    WHERE (e.exchange, e.account, e.strategy, e.symbol) = (p.exchange, p.account, p.strategy, p.symbol)
                    AND {during("e.ts_recv_ns")}
                    GROUP BY 1) AS known
                    WHERE {OURS}
                    ORDER BY 1
                """),
                unit="locale",
                floor=None,
            ),
            graph(
                "Profit by interval",
                "Profit after fees of the positions that were closed in each interval.",
                series(f"""
                    SELECT {slot("closed_ns")} AS time, strategy AS metric,
                    sum(profit)::float8 AS value
                    {CLOSED}
                    GROUP BY 1, 2
                    ORDER BY 1
                """),
                unit="locale",
                floor=None,
                bars=True,
            ),
            listing(
                "By strategy and pair",
                "Positions closed in the chosen time: how many, how many of them earned something, profit and fees.",
                records(f"""
                    SELECT strategy, symbol, count(*) AS closed, avg((profit > 0)::int)::float8 AS won,
                    sum(profit)::float8 AS profit, sum(fees)::float8 AS fees, avg(closed_ns - opened_ns)::float8 / 1e9 AS held
                    {CLOSED}
                    GROUP BY 1, 2
                    ORDER BY 1, 2
                """),
                units={"won": "percentunit", "profit": "locale", "fees": "locale", "held": "s"},
                empty="no trade",
                height=8,
            ),
            listing(
                "By reason of the exit",
                "Positions closed in the chosen time, by why.",
                records(f"""
                    SELECT exit_reason AS reason, count(*) AS closed, avg((profit > 0)::int)::float8 AS won,
                    sum(profit)::float8 AS profit
                    {CLOSED}
                    GROUP BY 1
                    ORDER BY 2 DESC
                """),
                units={"won": "percentunit", "profit": "locale"},
                empty="no trade",
                height=8,
            ),
        )
        .section(
            "Positions",
            listing(
                "Held now",
                "Positions that hold something: quantity in base, the rest in quote currency.",
                records(f"""
                    SELECT strategy, symbol, trim_scale(quantity) AS quantity, trim_scale(mark_price) AS mark,
                    (quantity * mark_price)::float8 AS value, unrealised::float8 AS unrealised,
                    (realised - fees)::float8 AS realised
                    FROM {table("positions")}
                    WHERE {OURS} AND quantity <> 0
                    ORDER BY abs(quantity * mark_price) DESC
                """),
                units={"value": "locale", "unrealised": "locale", "realised": "locale"},
                empty="no position",
                height=8,
            ),
            graph(
                "Value of each position",
                "Positions at the mark; negative when short.",
                over_time(f"sum by (strategy, symbol) (tradebot_position_value{{{BOOK}}})", "{{strategy}} {{symbol}}"),
                unit="locale",
                floor=None,
            ),
            gauges(
                "Limits used",
                "How much of each limit of bot.risk is used.",
                now('max by (limit) (tradebot:risk_used:ratio{mode="$mode"})', "{{limit}}"),
                unit="percentunit",
                levels=((0.8, "orange"), (1, "red")),
            ),
            graph(
                "Quote balance",
                "Free quote balance, and what orders on their way may still take, UNKNOWN ones included.",
                over_time(f"sum by (exchange, quote) (tradebot_balance_free{{{VENUE}}})", "{{exchange}} {{quote}} free"),
                over_time(f"sum by (exchange, quote) (tradebot_balance_reserved{{{VENUE}}})", "{{exchange}} {{quote}} reserved"),
                unit="locale",
            ),
            graph(
                "Fees",
                "Fees paid since the bot's book began.",
                over_time(f"sum by (strategy, symbol) (tradebot_fees{{{BOOK}}})", "{{strategy}} {{symbol}}"),
                unit="locale",
            ),
            listing(
                "Balances",
                "What the venue told last of each asset, in units of the asset.",
                records(f"""
                    SELECT exchange, account, asset, trim_scale(free) AS free, trim_scale(locked) AS locked,
                    {moment("ts_recv_ns")} AS "when"
                    FROM {table("balances")}
                    WHERE {chosen("exchange", "venue")} AND (free <> 0 OR locked <> 0)
                    ORDER BY 1, 2, 3
                """),
                height=8,
            ),
        )
        .section(
            "Trades",
            candles(
                "Prices and our fills",
                "One-minute candles of the first chosen pair; the marks are our fills.",
                records(f"""
                    SELECT {moment("open_ns")} AS time, open::float8, high::float8, low::float8, close::float8, volume::float8
                    FROM {table("ohlcv")}
                    WHERE (exchange, symbol) = (
                    SELECT exchange, symbol FROM {table("instruments")}
                    WHERE {chosen("exchange", "venue")} AND {chosen("symbol", "pair")} ORDER BY 1, 2 LIMIT 1)
                    AND timeframe = '1m' AND {during("open_ns")}
                    ORDER BY open_ns
                """),
            ),
            listing(
                "Closed positions",
                "Positions from entry to flat, the newest first; profit after fees in quote currency.",
                records(f"""
                    SELECT {moment("closed_ns")} AS "when", symbol, profit::float8 AS profit, side,
                    (profit / nullif(entry_cost, 0))::float8 AS return, exit_reason AS reason, (closed_ns - opened_ns) / 1e9 AS held
                    {CLOSED}
                    ORDER BY closed_ns DESC
                    LIMIT 100
                """),
                words={"side": SIDE_WORDS},
                units={"profit": "locale", "return": "percentunit", "held": "s"},
                empty="no trade",
                height=12,
            ),
            number(
                "Fills not of ours",
                "Executions in the chosen time on the account that no order of ours made.",
                records(f"""
                    SELECT count(*) AS external FROM {table("fills")}
                    WHERE {chosen("exchange", "venue")} AND {chosen("symbol", "pair")} AND {during("ts_recv_ns")} AND external
                """),
                levels=ANY_IS_ODD,
                span=12,
            ),
            number(
                "Open positions",
                "Positions that hold something, dust included, as the bot knows them now.",
                now(f"sum(tradebot_bot_positions{{{VENUE}}})"),
                empty="no bot",
                span=12,
            ),
        )
    )


def _fills(side: str) -> str:
    """Our fills of one side as marks: at most the newest 500, or the graphs could not be read."""
    return f"""
        SELECT {moment("ts_recv_ns")} AS time,
        side || ' ' || trim_scale(quantity) || ' ' || symbol || ' at ' || trim_scale(price) AS text,
        exchange || ',' || symbol || ',' || strategy AS tags
        FROM {table("fills")}
        WHERE {OURS} AND side = '{side}' AND {during("ts_recv_ns")}
        ORDER BY ts_recv_ns DESC
        LIMIT 500
    """
