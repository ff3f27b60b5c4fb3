"""Which message becomes a row of which table, and how: the one place that knows both vocabularies.

A column bears the name of the message's field wherever it can, so most tables are their column list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import common_models as cm

Row = tuple[Any, ...]

MARKET = ("exchange", "symbol")
ACCOUNT = ("exchange", "account")
TIMES = ("ts_event_ns", "ts_recv_ns", "ts_pub_ns", "message_id")
DECIDED = ("ts_event_ns", "ts_pub_ns", "message_id")
CAUSES = ("causation_id", "correlation_id")


@dataclass(frozen=True, slots=True)
class Latest:
    """A table with one row per `key`: the message with the highest `guard` (a column) wins, whenever it comes."""

    table: str
    key: tuple[str, ...]
    guard: str


@dataclass(frozen=True, slots=True)
class Table:
    """Where messages of one type go: `row` gives the values of `columns`; `latest` keeps the newest beside the history.

    `table` is None when only the newest is kept. `wanted` says which messages are history at all.
    """

    table: str | None
    columns: tuple[str, ...]
    row: Callable[[Any], Row]
    latest: Latest | None = None
    wanted: Callable[[Any], bool] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The one or two tables that a message goes to."""
        found = (self.table, self.latest.table if self.latest else None)
        return tuple([name for name in found if name])


def _table(table: str | None, *columns: str, latest: Latest | None = None, wanted: Callable[[Any], bool] | None = None) -> Table:
    return Table(table, columns, attrgetter(*columns), latest, wanted)


TRADE_COLUMNS = (*MARKET, "kind", "trade_id", "side", "price", "size", "first_trade_id", "last_trade_id", *TIMES)


def _trade(trade: cm.Trade) -> Row:
    first, last = (trade.first_trade_id, trade.last_trade_id) if isinstance(trade, cm.AggregateTrade) else (None, None)
    return (
        trade.exchange,
        trade.symbol,
        "trade" if first is None else "aggregate",
        trade.trade_id,
        trade.side,
        trade.price,
        trade.size,
        first,
        last,
        trade.ts_recv_ns if trade.ts_event_ns is None else trade.ts_event_ns,
        trade.ts_recv_ns,
        trade.ts_pub_ns,
        trade.message_id,
    )


def _closed(candle: cm.Candle) -> bool:
    return candle.closed


TRADES = Table("trades", TRADE_COLUMNS, _trade)

TABLES: Mapping[type[cm.Message], Table] = {
    cm.Trade: TRADES,
    cm.AggregateTrade: TRADES,
    cm.Ticker: _table("tickers", *MARKET, "bid_price", "bid_size", "ask_price", "ask_size", "crossed", "sequence", *TIMES),
    cm.OrderBook: _table("order_books", *MARKET, "sequence", "valid", "crossed", "bids", "asks", *TIMES),
    cm.DayStats: _table(
        "day_stats",
        *MARKET,
        *("open", "high", "low", "last", "volume", "quote_volume", "change_percent", "trade_count"),
        *TIMES,
    ),
    cm.Candle: _table(
        "ohlcv",
        *MARKET,
        *("timeframe", "open_ns", "close_ns", "open", "high", "low", "close", "volume", "quote_volume", "trade_count"),
        *TIMES,
        wanted=_closed,
    ),
    cm.FundingRate: _table("funding_rates", *MARKET, "rate", "next_funding_ns", "mark_price", "index_price", *TIMES),
    cm.Instrument: _table(
        None,
        *MARKET,
        *("native_symbol", "base", "quote", "status", "price_tick", "quantity_step", "min_quantity", "max_quantity"),
        *("market_quantity_step", "max_market_quantity", "min_notional", "max_notional", "min_price", "max_price", "order_types"),
        *TIMES,
        latest=Latest("instruments", MARKET, "ts_recv_ns"),
    ),
    cm.OrderUpdate: _table(
        "order_events",
        *ACCOUNT,
        *("client_order_id", "revision", "exchange_order_id", "symbol", "side", "order_type", "time_in_force", "status"),
        *("quantity", "price", "stop_price", "filled_quantity", "filled_quote", "command_id", "strategy", "code", "reason"),
        *("external", "reduce_only", "operator_review", "made_by"),
        *TIMES,
        *CAUSES,
        latest=Latest("orders", (*ACCOUNT, "client_order_id"), "revision"),
    ),
    cm.Fill: _table(
        "fills",
        *ACCOUNT,
        *("symbol", "trade_id", "client_order_id", "exchange_order_id", "side", "price", "quantity", "quote_quantity"),
        *("fee", "fee_asset", "liquidity", "strategy", "external"),
        *TIMES,
        *CAUSES,
    ),
    cm.Balance: _table(
        "balance_events",
        *(*ACCOUNT, "asset", "free", "locked"),
        *TIMES,
        latest=Latest("balances", (*ACCOUNT, "asset"), "ts_pub_ns"),
    ),
    cm.Position: _table(
        "position_events",
        *ACCOUNT,
        *("strategy", "symbol", "quantity", "cost", "realised", "unrealised", "fees", "mark_price"),
        *TIMES,
        *CAUSES,
        latest=Latest("positions", (*ACCOUNT, "strategy", "symbol"), "ts_pub_ns"),
    ),
    cm.RoundTrip: _table(
        "round_trips",
        *ACCOUNT,
        *("strategy", "symbol", "side", "quantity", "entry_cost", "exit_proceeds", "fees", "profit", "opened_ns", "closed_ns"),
        *("exit_reason", "trade_ids", "ts_pub_ns", "message_id"),
        *CAUSES,
    ),
    cm.Signal: _table(
        "signals", *MARKET, "strategy", "direction", "confidence", "strength", "reason", "version", "shadow", *DECIDED, *CAUSES
    ),
    cm.Decision: _table(
        "decisions",
        *ACCOUNT,
        *("symbol", "strategy", "direction", "verdict", "code", "reason", "numbers", "signals", "command_id", "quantity", "price"),
        "made_by",
        *DECIDED,
        *CAUSES,
    ),
    cm.Alert: _table(
        "alerts", "level", "source", "code", "text", "exchange", "symbol", "numbers", "category", "resolves", *DECIDED, *CAUSES
    ),
    cm.PluginStatus: _table(
        None,
        *("name", "path", "state", "mode", "version", "reason", "pid", "callbacks", "warm_up", "waiting_for", "events", "signals"),
        *("errors", "call_p99_us", "memory_bytes", "heartbeat", "ts_event_ns", "ts_pub_ns", "message_id"),
        latest=Latest("plugins", ("name",), "ts_pub_ns"),
    ),
    cm.Control: _table("controls", "action", "actor", "reason", "target", "created_at_ns", "ts_pub_ns", "message_id"),
    cm.ConnectorStatus: _table("connector_status", *ACCOUNT, "leg", "state", "reason", "subject", "clock_offset_ns", *TIMES),
    cm.Gap: _table(
        "gaps",
        *(*MARKET, "stream", "reason", "from_ns", "to_ns", "first_missing", "last_missing", "count", "healed"),
        *("ts_recv_ns", "ts_pub_ns", "message_id"),
    ),
}
"""What the recorder stores. Other kinds on its streams are acknowledged and counted, and leave no row."""
