"""Orders, fills and balances in the venue's JSON shapes.

Source: https://github.com/binance/binance-spot-api-docs (rest-api.md, user-data-stream.md), read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from common_models.base import Side
from common_models.commands_events_models import Liquidity, OrderStatus, OrderType, TimeInForce
from simulator.exchange import AccountChange
from simulator.ledger import BalanceRecord, FillRecord
from simulator.venues.binance.numbers import Payload, ms, number
from trading.matching_orders import EndReason, Happening, Order, OrderEvent, SelfTrade

SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
SIDE_NAMES = {side: name for name, side in SIDES.items()}
TIMES_IN_FORCE = {"GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK}
SELF_TRADES = {mode.name: mode for mode in SelfTrade}
STATUS_NAMES = {
    OrderStatus.OPEN: "NEW",
    OrderStatus.PARTIALLY_FILLED: "PARTIALLY_FILLED",
    OrderStatus.FILLED: "FILLED",
    OrderStatus.CANCELED: "CANCELED",
    OrderStatus.EXPIRED: "EXPIRED",
    OrderStatus.REJECTED: "REJECTED",
}
_EXPIRY_REASONS = {
    EndReason.UNFILLED_IOC: "UNFILLED_IOC_QUANTITY_EXPIRED",
    EndReason.UNFILLED_FOK: "UNFILLED_FOK_ORDER_EXPIRED",
    EndReason.NO_LIQUIDITY: "INSUFFICIENT_LIQUIDITY",
}


def type_name(order: Order) -> str:
    if order.order_type is OrderType.LIMIT:
        return "LIMIT_MAKER" if order.post_only else "LIMIT"
    return "MARKET" if order.order_type is OrderType.MARKET else "STOP_LOSS_LIMIT"


def status_name(order: Order, status: OrderStatus) -> str:
    if status is OrderStatus.EXPIRED and order.end_reason is EndReason.SELF_TRADE:
        return "EXPIRED_IN_MATCH"
    return STATUS_NAMES[status]


def order_body(order: Order, native_symbol: str) -> Payload:
    """The fields that every order answer begins with."""
    return {
        "symbol": native_symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_order_id,
        "price": number(order.price),
        "origQty": number(order.quantity),
        "executedQty": number(order.filled),
        "origQuoteOrderQty": number(order.quote_quantity),
        "cummulativeQuoteQty": number(order.filled_quote),
        "status": status_name(order, order.status),
        "timeInForce": order.time_in_force.name,
        "type": type_name(order),
        "side": SIDE_NAMES[order.side],
        **({"stopPrice": number(order.stop_price)} if order.stop_price is not None else {}),
        "selfTradePreventionMode": order.self_trade.name,
        **({"workingTime": ms(order.working_ns)} if order.working_ns else {}),
    }


def queried_order(order: Order, native_symbol: str) -> Payload:
    """GET /api/v3/order and the lists of orders."""
    return order_body(order, native_symbol) | {
        "stopPrice": number(order.stop_price),
        "icebergQty": number(None),
        "time": ms(order.created_ns),
        "updateTime": ms(order.updated_ns),
        "isWorking": not order.waiting,
        "workingTime": ms(order.working_ns) if order.working_ns else -1,
    }


def placed_order(order: Order, native_symbol: str, detail: str, events: Sequence[OrderEvent], fee_asset: str) -> Payload:
    """The answer to a new order: ACK, RESULT or FULL (with the fills of this order)."""
    if detail == "ACK":
        return {
            "symbol": native_symbol,
            "orderId": order.order_id,
            "orderListId": -1,
            "clientOrderId": order.client_order_id,
            "transactTime": ms(order.updated_ns),
        }
    body = order_body(order, native_symbol) | {"transactTime": ms(order.updated_ns)}
    if detail == "FULL":
        body["fills"] = [
            {
                "price": number(event.execution.price),
                "qty": number(event.execution.quantity),
                "commission": number(event.fee),
                "commissionAsset": fee_asset,
                "tradeId": event.execution.trade_id,
            }
            for event in events
            if event.execution is not None and event.order is order
        ]
    return body


def cancelled_order(order: Order, native_symbol: str, cancel_id: str) -> Payload:
    return order_body(order, native_symbol) | {
        "origClientOrderId": order.client_order_id,
        "clientOrderId": cancel_id,
        "transactTime": ms(order.updated_ns),
    }


def own_trade(fill: FillRecord, native_symbol: str) -> Payload:
    return {
        "symbol": native_symbol,
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "orderListId": -1,
        "price": number(fill.price),
        "qty": number(fill.quantity),
        "quoteQty": number(fill.quote_quantity),
        "commission": number(fill.fee),
        "commissionAsset": fill.fee_asset,
        "time": ms(fill.ts_ns),
        "isBuyer": fill.side is Side.BUY,
        "isMaker": fill.liquidity is Liquidity.MAKER,
        "isBestMatch": True,
    }


def execution_report(change: AccountChange, event: OrderEvent, native_symbol: str, fee_asset: str) -> Payload:
    """One step of one order, as the user data stream tells it."""
    order, execution = event.order, event.execution
    canceled = event.happening is Happening.ENDED and event.status is OrderStatus.CANCELED
    kind = {Happening.ACCEPTED: "NEW", Happening.TRIGGERED: "NEW", Happening.FILLED: "TRADE"}.get(
        event.happening, "CANCELED" if canceled else "EXPIRED"
    )
    if order.end_reason is EndReason.SELF_TRADE and kind == "EXPIRED":
        kind = "TRADE_PREVENTION"
    report: Payload = {
        "e": "executionReport",
        "E": ms(change.ts_ns),
        "s": native_symbol,
        "c": change.cancel_id if canceled and change.cancel_id else order.client_order_id,
        "S": SIDE_NAMES[order.side],
        "o": type_name(order),
        "f": order.time_in_force.name,
        "q": number(order.quantity),
        "p": number(order.price),
        "P": number(order.stop_price),
        "F": number(None),
        "g": -1,
        "C": order.client_order_id if canceled else "",
        "x": kind,
        "X": status_name(order, event.status),
        "r": "NONE",
        "i": order.order_id,
        "l": number(execution.quantity if execution else None),
        "z": number(event.filled),
        "L": number(execution.price if execution else None),
        "n": number(event.fee) if execution else "0",
        "N": fee_asset if execution else None,
        "T": ms(change.ts_ns),
        "t": execution.trade_id if execution else -1,
        "I": change.sequence,
        "w": _works(event),
        "m": event.liquidity is Liquidity.MAKER,
        "M": False,
        "O": ms(order.created_ns),
        "Z": number(event.filled_quote),
        "Y": number(execution.quote_quantity if execution else None),
        "Q": number(order.quote_quantity),
        "V": order.self_trade.name,
    }
    if order.working_ns:
        report["W"] = ms(order.working_ns)
    if kind == "EXPIRED" and order.end_reason in _EXPIRY_REASONS:
        report["eR"] = _EXPIRY_REASONS[order.end_reason]
    return report


def _works(event: OrderEvent) -> bool:
    """Whether the order can trade after this step: it has not ended, and does not wait for its stop price."""
    waiting = event.happening is Happening.ACCEPTED and event.order.order_type is OrderType.STOP_LIMIT
    return not event.status.terminal and not waiting


def account_position(ts_ns: int, balances: Sequence[BalanceRecord]) -> Payload:
    return {
        "e": "outboundAccountPosition",
        "E": ms(ts_ns),
        "u": ms(ts_ns),
        "B": [{"a": row.asset, "f": number(row.free), "l": number(row.locked)} for row in balances],
    }


def balance_update(ts_ns: int, asset: str, delta: Decimal) -> Payload:
    return {"e": "balanceUpdate", "E": ms(ts_ns), "a": asset, "d": number(delta), "T": ms(ts_ns)}
