"""Signed operations: placing, cancelling and asking about orders, fills and balances."""

from __future__ import annotations

import secrets
import string
from typing import Any

from common_models.base import Side
from common_models.commands_events_models import OrderType, TimeInForce
from runtime.clock import now_ns
from simulator.exchange import History, Market
from simulator.venues.binance import order_payloads as payloads
from simulator.venues.binance.api import Asked, Endpoint, Security
from simulator.venues.binance.errors import (
    ApiError,
    either,
    mandatory,
    no_such_order,
    not_required,
    refused,
    unknown_order_on_cancel,
)
from simulator.venues.binance.market_payloads import ORDER_TYPES
from simulator.venues.binance.numbers import number
from simulator.venues.binance.params import Params
from trading.matching import Result
from trading.matching_orders import NewOrder, Order, Refused, SelfTrade

_ALPHABET = string.ascii_letters + string.digits
_UNSUPPORTED_TYPES = {
    "STOP_LOSS": "Stop loss orders are not supported for this symbol.",
    "TAKE_PROFIT": "Take profit orders are not supported for this symbol.",
    "TAKE_PROFIT_LIMIT": "Take profit limit orders are not supported for this symbol.",
}
_DAY_MS = 86_400_000
_MAX_ROWS = 1000


def generated_id() -> str:
    """A client order id for a request that has none."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(22))


# -- reading an order --------------------------------------------------------------------------------------------------


def _new_order(asked: Asked, market: Market) -> NewOrder:
    params = asked.params
    side = params.choice("side", payloads.SIDES, -1117, "Invalid side.")
    if side is None:
        raise mandatory("side")
    name = params.required("type")
    if name in _UNSUPPORTED_TYPES:
        raise ApiError(-2010, _UNSUPPORTED_TYPES[name])
    if name not in ORDER_TYPES:
        raise ApiError(-1116, "Invalid orderType.")
    if "icebergQty" in params:
        raise ApiError(-2010, "Iceberg orders are not supported for this symbol.")
    if "trailingDelta" in params:
        raise ApiError(-2010, "Trailing stop orders are not supported for this symbol.")
    _check_parameters(params, name)
    self_trade = params.choice("selfTradePreventionMode", payloads.SELF_TRADES, -1130, "Invalid selfTradePreventionMode.")
    order_type = {"MARKET": OrderType.MARKET, "STOP_LOSS_LIMIT": OrderType.STOP_LIMIT}.get(name, OrderType.LIMIT)
    return NewOrder(
        account=asked.account,
        symbol=market.symbol,
        side=side,
        order_type=order_type,
        client_order_id=params.client_id("newClientOrderId") or generated_id(),
        quantity=params.decimal("quantity"),
        quote_quantity=params.decimal("quoteOrderQty"),
        price=params.decimal("price"),
        stop_price=params.decimal("stopPrice"),
        time_in_force=params.choice("timeInForce", payloads.TIMES_IN_FORCE, -1115, "Invalid timeInForce.") or TimeInForce.GTC,
        post_only=name == "LIMIT_MAKER",
        self_trade=self_trade or SelfTrade.EXPIRE_MAKER,
    )


def _check_parameters(params: Params, name: str) -> None:
    """Each type needs some parameters and refuses others."""
    needed = {
        "LIMIT": ("timeInForce", "quantity", "price"),
        "LIMIT_MAKER": ("quantity", "price"),
        "STOP_LOSS_LIMIT": ("timeInForce", "quantity", "price", "stopPrice"),
        "MARKET": (),
    }[name]
    for parameter in needed:
        params.required(parameter)
    if name == "MARKET":
        if ("quantity" in params) == ("quoteOrderQty" in params):
            raise not_required("quoteOrderQty") if "quantity" in params else either("quantity", "quoteOrderQty")
    elif "quoteOrderQty" in params:
        raise not_required("quoteOrderQty")
    for parameter in ("timeInForce", "price", "stopPrice"):
        if parameter in params and parameter not in needed:
            raise not_required(parameter)


# -- placing and cancelling --------------------------------------------------------------------------------------------


def place(asked: Asked) -> dict[str, Any]:
    market = asked.context.market(asked.params)
    new = _new_order(asked, market)
    detail = _response_detail(asked.params, new.order_type)
    result = asked.context.exchange.place(new, asked.identity)
    return _placed(asked, market, result, detail)


def test_order(asked: Asked) -> dict[str, Any]:
    """All checks of a new order, and nothing more."""
    market = asked.context.market(asked.params)
    new = _new_order(asked, market)
    _response_detail(asked.params, new.order_type)
    asked.context.exchange.engine.accounts.open(asked.account)
    asked.context.exchange.engine.check(new)
    return {}


def _response_detail(params: Params, order_type: OrderType) -> str:
    detail = params.text("newOrderRespType") or ("ACK" if order_type is OrderType.STOP_LIMIT else "FULL")
    if detail not in ("ACK", "RESULT", "FULL"):
        raise ApiError(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
    return detail


def _placed(asked: Asked, market: Market, result: Result, detail: str) -> dict[str, Any]:
    order = result.order
    assert order is not None
    if order.filled:
        asked.context.limits.forgive_order(asked.account)
    instrument = market.instrument
    fee_asset = instrument.base if order.side is Side.BUY else instrument.quote
    return payloads.placed_order(order, instrument.native_symbol, detail, result.events, fee_asset)


def cancel(asked: Asked) -> dict[str, Any]:
    market = asked.context.market(asked.params)
    cancel_id = asked.params.client_id("newClientOrderId") or generated_id()
    order = _open_order(asked, market)
    restriction = asked.params.text("cancelRestrictions")
    if restriction not in (None, "ONLY_NEW", "ONLY_PARTIALLY_FILLED"):
        raise ApiError(-1145, "`cancelRestrictions` has to be either `ONLY_NEW` or `ONLY_PARTIALLY_FILLED`.")
    if restriction is not None and bool(order.filled) != (restriction == "ONLY_PARTIALLY_FILLED"):
        raise ApiError(-2011, "Order was not canceled due to cancel restrictions.")
    asked.context.exchange.cancel(order, asked.identity, cancel_id)
    return payloads.cancelled_order(order, market.instrument.native_symbol, cancel_id)


def _open_order(asked: Asked, market: Market) -> Order:
    order_id, client_id = _identifiers(asked.params)
    engine = asked.context.exchange.engine
    order = engine.find(asked.account, order_id=order_id, client_order_id=client_id)
    if order is None or order.symbol != market.symbol:
        raise unknown_order_on_cancel()
    if order_id is not None and client_id is not None and order.client_order_id != client_id:
        raise ApiError(-2039, "Client order ID is not correct for this order ID.")
    return order


def _identifiers(params: Params) -> tuple[int | None, str | None]:
    order_id, client_id = params.integer("orderId"), params.client_id("origClientOrderId")
    if order_id is None and client_id is None:
        raise either("origClientOrderId", "orderId")
    return order_id, client_id


def cancel_all(asked: Asked) -> list[Any]:
    market = asked.context.market(asked.params)
    exchange = asked.context.exchange
    orders = exchange.engine.open_orders(asked.account, market.symbol)
    if not orders:
        raise unknown_order_on_cancel()
    cancelled = []
    for order in orders:
        cancel_id = generated_id()
        exchange.cancel(order, asked.identity, cancel_id)
        cancelled.append(payloads.cancelled_order(order, market.instrument.native_symbol, cancel_id))
    return cancelled


def cancel_replace(asked: Asked) -> dict[str, Any]:
    """Cancel one order and place another; -2021 when only one of the two came about, -2022 when neither did."""
    params = asked.params
    market = asked.context.market(params)
    mode = params.required("cancelReplaceMode")
    if mode not in ("STOP_ON_FAILURE", "ALLOW_FAILURE"):
        raise ApiError(-1130, "Data sent for parameter 'cancelReplaceMode' is not valid.")
    new = _new_order(asked, market)
    detail = _response_detail(params, new.order_type)
    cancel_side, cancelled = _attempt(lambda: cancel(_cancel_part(asked)))
    if not cancelled and mode == "STOP_ON_FAILURE":
        raise _replace_failure(-2022, "FAILURE", cancel_side, "NOT_ATTEMPTED", None)
    new_side, placed = _attempt(lambda: _placed(asked, market, asked.context.exchange.place(new, asked.identity), detail))
    if cancelled and placed:
        return {
            "cancelResult": "SUCCESS",
            "newOrderResult": "SUCCESS",
            "cancelResponse": cancel_side,
            "newOrderResponse": new_side,
        }
    outcome = {True: "SUCCESS", False: "FAILURE"}
    code = -2021 if cancelled or placed else -2022
    raise _replace_failure(code, outcome[cancelled], cancel_side, outcome[placed], new_side)


def _cancel_part(asked: Asked) -> Asked:
    names = {"symbol": "symbol", "cancelOrderId": "orderId", "cancelOrigClientOrderId": "origClientOrderId"}
    names |= {"cancelNewClientOrderId": "newClientOrderId", "cancelRestrictions": "cancelRestrictions"}
    values = {short: asked.params.values[name] for name, short in names.items() if name in asked.params}
    return Asked(asked.context, Params(values), asked.identity, asked.account, asked.address)


def _attempt(action: Any) -> tuple[dict[str, Any], bool]:
    try:
        return action(), True
    except Refused as error:
        return refused(error).body, False
    except ApiError as error:
        return error.body, False


class ReplaceError(ApiError):
    """A cancel-replace that failed in part or whole; the body says what came about."""

    def __init__(self, code: int, data: dict[str, Any]) -> None:
        message = "Order cancel-replace partially failed." if code == -2021 else "Order cancel-replace failed."
        super().__init__(code, message, status=409 if code == -2021 else 400)
        self.data = data

    @property
    def body(self) -> dict[str, object]:
        return super().body | {"data": self.data}


def _replace_failure(
    code: int, cancelled: str, cancel_side: dict[str, Any], placed: str, new_side: dict[str, Any] | None
) -> ReplaceError:
    data = {"cancelResult": cancelled, "newOrderResult": placed, "cancelResponse": cancel_side, "newOrderResponse": new_side}
    return ReplaceError(code, data)


# -- asking -------------------------------------------------------------------------------------------------------------


def query(asked: Asked) -> dict[str, Any]:
    market = asked.context.market(asked.params)
    order_id, client_id = _identifiers(asked.params)
    history = asked.context.exchange.history(asked.account)
    order = history.orders.get(order_id) if order_id is not None else _by_client_id(asked, history, client_id, market)
    if order is None or order.symbol != market.symbol:
        raise no_such_order()
    if order_id is not None and client_id is not None and order.client_order_id != client_id:
        raise ApiError(-2039, "Client order ID is not correct for this order ID.")
    return payloads.queried_order(order, market.instrument.native_symbol)


def _by_client_id(asked: Asked, history: History, client_id: str | None, market: Market) -> Order | None:
    if client_id is None:
        return None
    live = asked.context.exchange.engine.find(asked.account, client_order_id=client_id)
    return live if live is not None else history.by_client_id(client_id, market.symbol)


def open_orders(asked: Asked) -> list[Any]:
    context = asked.context
    symbol = context.market(asked.params).symbol if "symbol" in asked.params else None
    orders = context.exchange.engine.open_orders(asked.account, symbol)
    return [payloads.queried_order(order, context.native(order.symbol)) for order in orders]


def all_orders(asked: Asked) -> list[Any]:
    params = asked.params
    market = asked.context.market(params)
    orders = [order for order in asked.context.exchange.history(asked.account).orders.values() if order.symbol == market.symbol]
    orders.sort(key=lambda order: order.order_id)
    start_ms, end_ms = _range(params)
    first = params.integer("orderId")
    rows = _rows(params)
    if first is not None:
        chosen = [order for order in orders if order.order_id >= first][:rows]
    else:
        inside = [order for order in orders if start_ms <= order.created_ns // 1_000_000 <= end_ms]
        chosen = inside[:rows] if "startTime" in params else inside[-rows:]
    return [payloads.queried_order(order, market.instrument.native_symbol) for order in chosen]


def own_trades(asked: Asked) -> list[Any]:
    params = asked.params
    market = asked.context.market(params)
    fills = [fill for fill in asked.context.exchange.history(asked.account).fills if fill.symbol == market.symbol]
    order_id, first = params.integer("orderId"), params.integer("fromId")
    start_ms, end_ms = _range(params)
    if order_id is not None:
        fills = [fill for fill in fills if fill.order_id == order_id]
    rows = _rows(params)
    if first is not None:
        chosen = [fill for fill in fills if fill.trade_id >= first][:rows]
    else:
        inside = [fill for fill in fills if start_ms <= fill.ts_ns // 1_000_000 <= end_ms]
        chosen = inside[:rows] if "startTime" in params else inside[-rows:]
    return [payloads.own_trade(fill, market.instrument.native_symbol) for fill in chosen]


def _range(params: Params) -> tuple[int, int]:
    start_ms, end_ms = params.integer("startTime"), params.integer("endTime")
    if start_ms is not None and end_ms is not None and end_ms - start_ms > _DAY_MS:
        raise ApiError(-1127, "More than 24 hours between startTime and endTime.")
    return start_ms or 0, end_ms if end_ms is not None else 2**62


def _rows(params: Params) -> int:
    return min(params.integer("limit", 500, 1) or 500, _MAX_ROWS)


def account(asked: Asked) -> dict[str, Any]:
    exchange = asked.context.exchange
    hide_empty = asked.params.flag("omitZeroBalances")
    maker, taker = number(exchange.engine.maker_fee), number(exchange.engine.taker_fee)
    balances = [row for row in exchange.balances(asked.account) if not hide_empty or row.free or row.locked]
    return {
        "makerCommission": int(exchange.engine.maker_fee * 10_000),
        "takerCommission": int(exchange.engine.taker_fee * 10_000),
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {"maker": maker, "taker": taker, "buyer": number(None), "seller": number(None)},
        "canTrade": True,
        "canWithdraw": False,
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": now_ns() // 1_000_000,
        "accountType": "SPOT",
        "balances": [{"asset": row.asset, "free": number(row.free), "locked": number(row.locked)} for row in balances],
        "permissions": ["SPOT"],
        "uid": 1,
    }


def order_counts(asked: Asked) -> list[Any]:
    counts = asked.context.limits.order_counts(asked.account)
    described = asked.context.limits.described_orders()
    return [{**limit, "count": count} for limit, count in zip(described, counts, strict=True)]


PLACE = Endpoint("order.place", place, 1, Security.TRADE, places_order=True)
TEST = Endpoint("order.test", test_order, 1, Security.TRADE)
CANCEL = Endpoint("order.cancel", cancel, 1, Security.TRADE)
CANCEL_ALL = Endpoint("openOrders.cancelAll", cancel_all, 1, Security.TRADE)
CANCEL_REPLACE = Endpoint("order.cancelReplace", cancel_replace, 1, Security.TRADE, places_order=True)
QUERY = Endpoint("order.status", query, 4, Security.USER_DATA)
OPEN_ORDERS = Endpoint("openOrders.status", open_orders, lambda params: 6 if "symbol" in params else 80, Security.USER_DATA)
ALL_ORDERS = Endpoint("allOrders", all_orders, 20, Security.USER_DATA)
OWN_TRADES = Endpoint("myTrades", own_trades, lambda params: 5 if "orderId" in params else 20, Security.USER_DATA)
ACCOUNT = Endpoint("account.status", account, 20, Security.USER_DATA)
ORDER_COUNTS = Endpoint("account.rateLimits.orders", order_counts, 40, Security.USER_DATA)
