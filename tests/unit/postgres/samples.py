"""One message of every kind, with overrides: what the recorder's tests store."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar

import msgspec

import common_models as cm

M = TypeVar("M", bound=cm.Message)

NOW_NS = 1_763_726_400_000_000_000
"""2025-11-21 12:00 UTC: the sample events' day."""

MARKET: dict[str, Any] = {"exchange": "binance", "symbol": "BTC/USDT", "ts_event_ns": NOW_NS, "ts_recv_ns": NOW_NS + 5}
ACCOUNT: dict[str, Any] = {"exchange": "binance", "account": "main", "ts_event_ns": NOW_NS, "ts_recv_ns": NOW_NS + 5}


def trade(number: int = 1, **changes: Any) -> cm.Trade:
    event = cm.Trade(
        **MARKET,
        trade_id=str(number),
        side=cm.Side.BUY,
        price=Decimal("64000.10"),
        size=Decimal("0.00120"),
        **identity("trades", number),
    )
    return changed(event, changes)


def aggregate(number: int = 1, **changes: Any) -> cm.AggregateTrade:
    event = cm.AggregateTrade(
        **MARKET,
        trade_id=str(number),
        side=cm.Side.SELL,
        price=Decimal("64000.10"),
        size=Decimal("0.5"),
        first_trade_id="7",
        last_trade_id="9",
        **identity("trades", number),
    )
    return changed(event, changes)


def ticker(number: int = 1, **changes: Any) -> cm.Ticker:
    event = cm.Ticker(
        **MARKET,
        bid_price=Decimal("64000.10"),
        bid_size=Decimal("1.5"),
        ask_price=Decimal("64000.11"),
        ask_size=Decimal("0.2"),
        crossed=False,
        sequence=number,
        **identity("tickers", number),
    )
    return changed(event, changes)


def book(number: int = 1, **changes: Any) -> cm.OrderBook:
    event = cm.OrderBook(
        **MARKET,
        sequence=number,
        valid=True,
        crossed=False,
        bids=((Decimal("64000.10"), Decimal("1.50")), (Decimal("64000.00"), Decimal(2))),
        asks=((Decimal("64000.20"), Decimal("0.0001")),),
        **identity("books", number),
    )
    return changed(event, changes)


def candle(number: int = 1, **changes: Any) -> cm.Candle:
    event = cm.Candle(
        **MARKET,
        timeframe="1m",
        open_ns=NOW_NS + number * 60_000_000_000,
        close_ns=NOW_NS + (number + 1) * 60_000_000_000,
        open=Decimal("1.0"),
        high=Decimal("1.3"),
        low=Decimal("0.9"),
        close=Decimal("1.1"),
        volume=Decimal(100),
        quote_volume=Decimal("110.5"),
        trade_count=12,
        closed=True,
        **identity("candles", number),
    )
    return changed(event, changes)


def order(revision: int = 1, **changes: Any) -> cm.OrderUpdate:
    event = cm.OrderUpdate(
        **ACCOUNT,
        client_order_id="5" + "0" * 31,
        symbol="BTC/USDT",
        side=cm.Side.BUY,
        order_type=cm.OrderType.LIMIT,
        status=cm.OrderStatus.OPEN,
        quantity=Decimal("0.5"),
        filled_quantity=Decimal(0),
        filled_quote=Decimal(0),
        revision=revision,
        price=Decimal("64000.10"),
        exchange_order_id="4711",
        strategy="ema_cross",
        **identity("orders", revision),
    )
    return changed(event, changes)


def fill(number: int = 1, **changes: Any) -> cm.Fill:
    event = cm.Fill(
        **ACCOUNT,
        trade_id=str(number),
        client_order_id="5" + "0" * 31,
        exchange_order_id="4711",
        symbol="BTC/USDT",
        side=cm.Side.BUY,
        price=Decimal("64000.10"),
        quantity=Decimal("0.1"),
        quote_quantity=Decimal("6400.010"),
        fee=Decimal("0.0001"),
        fee_asset="BTC",
        liquidity=cm.Liquidity.TAKER,
        **identity("fills", number),
    )
    return changed(event, changes)


def balance(number: int = 1, **changes: Any) -> cm.Balance:
    return changed(
        cm.Balance(**ACCOUNT, asset="USDT", free=Decimal("99.50"), locked=Decimal(number), **identity("balances", number)), changes
    )


def position(number: int = 1, **changes: Any) -> cm.Position:
    event = cm.Position(
        **ACCOUNT,
        symbol="BTC/USDT",
        strategy="ema_cross",
        quantity=Decimal(number),
        cost=Decimal("6400.01"),
        **identity("positions", number),
    )
    return changed(event, changes)


def signal(number: int = 1, **changes: Any) -> cm.Signal:
    event = cm.Signal(
        strategy="ema_cross",
        exchange="binance",
        symbol="BTC/USDT",
        direction=cm.Direction.BUY,
        confidence=0.75,
        strength=0.1,
        reason="fast above slow",
        ts_event_ns=NOW_NS,
        **identity("signals", number),
    )
    return changed(event, changes)


def decision(number: int = 1, **changes: Any) -> cm.Decision:
    event = cm.Decision(
        strategy="ema_cross",
        exchange="binance",
        account="main",
        symbol="BTC/USDT",
        direction=cm.Direction.BUY,
        verdict=cm.Verdict.DENIED,
        code="RISK_MAX_TRADES",
        reason="three are open",
        numbers={"open": "3", "limit": "3"},
        signals=("bot.signals:e:1",),
        ts_event_ns=NOW_NS,
        **identity("decisions", number),
    )
    return changed(event, changes)


def round_trip(number: int = 1, **changes: Any) -> cm.RoundTrip:
    event = cm.RoundTrip(
        exchange="binance",
        account="main",
        strategy="ema_cross",
        symbol="BTC/USDT",
        side=cm.Side.BUY,
        quantity=Decimal("0.1"),
        entry_cost=Decimal(6400),
        exit_proceeds=Decimal(6410),
        fees=Decimal("12.81"),
        profit=Decimal("-2.81"),
        opened_ns=NOW_NS,
        closed_ns=NOW_NS + number,
        exit_reason="take profit",
        trade_ids=("1", "2"),
        **identity("round-trips", number),
    )
    return changed(event, changes)


def one_of_each() -> list[cm.Message]:
    """A message of every kind that has a table."""
    numbers = {"rate": Decimal("0.0001"), "mark_price": Decimal("64000.5")}
    rules = {"price_tick": Decimal("0.01"), "quantity_step": Decimal("0.00001"), "min_quantity": Decimal("0.00001")}
    return [
        *(
            trade(),
            aggregate(),
            ticker(),
            book(),
            candle(),
            order(),
            fill(),
            balance(),
            position(),
            signal(),
            decision(),
            round_trip(),
        ),
        cm.DayStats(
            **MARKET,
            **dict.fromkeys(("open", "high", "low", "last", "volume", "quote_volume"), Decimal("1.5")),
            change_percent=Decimal("-0.5"),
            **identity("daystats", 1),
        ),
        cm.FundingRate(**MARKET, **numbers, next_funding_ns=NOW_NS, **identity("funding", 1)),
        cm.Instrument(
            **MARKET,
            native_symbol="BTCUSDT",
            base="BTC",
            quote="USDT",
            status=cm.InstrumentStatus.TRADING,
            order_types=("limit", "market"),
            **rules,
            **identity("instruments", 1),
        ),
        cm.Alert(
            level=cm.AlertLevel.WARNING,
            source="bot",
            code="BOT_LAG",
            text="late",
            ts_event_ns=NOW_NS,
            numbers={"ms": "9"},
            **identity("alerts", 1),
        ),
        cm.Control(action=cm.ControlAction.HALT, actor="me", reason="test", created_at_ns=NOW_NS, **identity("control", 1)),
        cm.PluginStatus(name="sma", path="sma.py", state=cm.PluginState.RUNNING, ts_event_ns=NOW_NS, **identity("plugins", 1)),
        cm.ConnectorStatus(**ACCOUNT, leg="market", state=cm.ConnectionState.CONNECTED, **identity("status", 1)),
        cm.Gap(
            exchange="binance",
            symbol="",
            stream="simulation:events:{binance}:trades",
            reason="dropped",
            from_ns=NOW_NS,
            to_ns=NOW_NS + 1,
            ts_recv_ns=NOW_NS,
            count=3,
            **identity("trades", 1),
        ),
    ]


def identity(label: str, number: int) -> dict[str, Any]:
    return {"message_id": f"test.{label}:e:{number}", "ts_pub_ns": NOW_NS + number}


def changed(message: M, changes: dict[str, Any]) -> M:
    return msgspec.structs.replace(message, **changes)
