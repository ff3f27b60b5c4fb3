"""Binance spot's orders, fills, balances and account events as they come off the wire, and as the facts that they mean.

Source: binance-spot-api-docs, rest-api.md, web-socket-api.md, user-data-stream.md, enums.md, read 2026-07-21.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from common_models import Liquidity, OrderStatus, OrderType, Side, TimeInForce
from common_models.decimals import NumberError, exact
from common_models.timestamps import TimestampError, ms_to_ns
from connectors.errors import BadResponse
from connectors.order_entry import BalanceReport, OrderReport
from trading.decimal_context import exact_arithmetic, exact_context
from trading.order_state import Executed, OrderTerms, Reported

_EXACT = exact_context()
_QUOTE_ROUNDING = Decimal("0.00000001")
"""Binance cuts the money of a fill to eight digits after the point."""

SymbolOf = Callable[[str], str]
"""Our symbol of the venue's."""

STATUSES = {
    "NEW": OrderStatus.OPEN,
    "PENDING_NEW": OrderStatus.OPEN,
    "PENDING_CANCEL": OrderStatus.OPEN,
    "PARTIALLY_FILLED": OrderStatus.PARTIALLY_FILLED,
    "FILLED": OrderStatus.FILLED,
    "CANCELED": OrderStatus.CANCELED,
    "REJECTED": OrderStatus.REJECTED,
    "EXPIRED": OrderStatus.EXPIRED,
    "EXPIRED_IN_MATCH": OrderStatus.EXPIRED,
}
TYPES = {
    "MARKET": OrderType.MARKET,
    "LIMIT": OrderType.LIMIT,
    "LIMIT_MAKER": OrderType.LIMIT,
    "STOP_LOSS_LIMIT": OrderType.STOP_LIMIT,
    "TAKE_PROFIT_LIMIT": OrderType.STOP_LIMIT,
    "STOP_LOSS": OrderType.STOP_LIMIT,
    "TAKE_PROFIT": OrderType.STOP_LIMIT,
}
"""Also of orders placed by others: types that we never send are told as the nearest of ours."""
TIMES_IN_FORCE = {"IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK}


class FillBody(msgspec.Struct):
    """A fill inside the answer to a new order: taken at once, so as taker. One without an id is fetched later."""

    price: str
    qty: str
    commission: str
    commissionAsset: str  # noqa: N815 the venue's names, here and below
    tradeId: int = -1  # noqa: N815


class OrderBody(msgspec.Struct):
    """An order as REST and the WebSocket API answer it: new, cancelled, queried or open."""

    symbol: str
    orderId: int  # noqa: N815
    clientOrderId: str  # noqa: N815
    origQty: str  # noqa: N815
    executedQty: str  # noqa: N815
    cummulativeQuoteQty: str  # noqa: N815
    status: str
    type: str
    side: str
    price: str = "0"
    timeInForce: str = "GTC"  # noqa: N815
    stopPrice: str = "0"  # noqa: N815
    origClientOrderId: str = ""  # noqa: N815
    transactTime: int = 0  # noqa: N815
    updateTime: int = 0  # noqa: N815
    time: int = 0
    fills: list[FillBody] = []


class TradeBody(msgspec.Struct):
    """One of our fills, as myTrades lists it."""

    symbol: str
    id: int
    orderId: int  # noqa: N815
    price: str
    qty: str
    quoteQty: str  # noqa: N815
    commission: str
    commissionAsset: str  # noqa: N815
    time: int
    isMaker: bool  # noqa: N815


class BalanceBody(msgspec.Struct):
    asset: str
    free: str
    locked: str


class AccountBody(msgspec.Struct):
    """GET /api/v3/account, as far as we use it."""

    balances: list[BalanceBody]
    updateTime: int = 0  # noqa: N815


class ExecutionEvent(msgspec.Struct):
    """`executionReport`: `c` is the order's client id, on a cancel that of the cancel, and then `C` is the order's."""

    E: int
    s: str
    c: str
    S: str
    o: str
    f: str
    q: str
    p: str
    P: str
    x: str
    X: str
    i: int
    l: str  # noqa: E741 the venue's names, here and below
    z: str
    L: str
    T: int
    t: int
    m: bool
    Z: str
    Y: str
    n: str = "0"
    N: str | None = None
    C: str = ""
    r: str = "NONE"
    eR: str = ""  # noqa: N815


class EventBalance(msgspec.Struct):
    a: str
    f: str
    l: str  # noqa: E741 the venue's name


class PositionEvent(msgspec.Struct):
    """`outboundAccountPosition`: the assets that may have changed, as of `u`."""

    u: int
    B: list[EventBalance]


class EventName(msgspec.Struct):
    e: str


def order_report(body: OrderBody, symbol_of: SymbolOf) -> OrderReport:
    """What an answered order means; raises BadResponse for values that are not documented."""
    try:
        at_ms = body.transactTime or body.updateTime or body.time
        at_ns = ms_to_ns(at_ms) if at_ms else 0  # older answers to a cancel carry no time
        report = OrderReport(
            client_order_id=body.origClientOrderId or body.clientOrderId,
            terms=_terms(body.symbol, body.side, body.type, body.timeInForce, body.origQty, body.price, body.stopPrice, symbol_of),
            report=Reported(
                status=STATUSES[body.status],
                at_ns=at_ns,
                exchange_order_id=str(body.orderId),
                filled_quantity=exact(body.executedQty),
                filled_quote=max(Decimal(0), exact(body.cummulativeQuoteQty)),  # negative means unknown, on very old orders
            ),
            fills=tuple(_taken(fill, str(body.orderId), at_ns) for fill in body.fills if fill.tradeId >= 0),
        )
        return _consistent(report)
    except (KeyError, ValueError) as error:
        raise BadResponse(f"order {body.orderId} of {body.symbol}: {_why(error)}") from error


def execution(event: ExecutionEvent, symbol_of: SymbolOf) -> OrderReport:
    """What an executionReport means; raises BadResponse for values that are not documented."""
    try:
        fills: tuple[Executed, ...] = ()
        # a trade without price or size has been seen: the order has moved, and its fill is asked for when it is found missing
        if event.x == "TRADE" and exact(event.L) and exact(event.l):
            fill = Executed(
                trade_id=str(event.t),
                price=exact(event.L),
                quantity=exact(event.l),
                quote_quantity=exact(event.Y),
                fee=exact(event.n),
                fee_asset=event.N or "",
                liquidity=Liquidity.MAKER if event.m else Liquidity.TAKER,
                at_ns=ms_to_ns(event.T),
                exchange_order_id=str(event.i),
            )
            fills = (_sound(fill),)
        reason = event.eR or (event.r if event.r != "NONE" else "")
        report = OrderReport(
            client_order_id=event.C if event.C and event.C != "null" else event.c,
            terms=_terms(event.s, event.S, event.o, event.f, event.q, event.p, event.P, symbol_of),
            report=Reported(
                status=STATUSES[event.X],
                at_ns=ms_to_ns(event.T),
                exchange_order_id=str(event.i),
                filled_quantity=exact(event.z),
                filled_quote=max(Decimal(0), exact(event.Z)),
                code=reason,
                reason=reason,
            ),
            fills=fills,
        )
        return _consistent(report)
    except (KeyError, ValueError) as error:
        raise BadResponse(f"executionReport of order {event.i}: {_why(error)}") from error


def trade(body: TradeBody) -> Executed:
    """One of our fills; raises BadResponse for malformed values."""
    try:
        fill = Executed(
            trade_id=str(body.id),
            price=exact(body.price),
            quantity=exact(body.qty),
            quote_quantity=exact(body.quoteQty),
            fee=exact(body.commission),
            fee_asset=body.commissionAsset,
            liquidity=Liquidity.MAKER if body.isMaker else Liquidity.TAKER,
            at_ns=ms_to_ns(body.time),
            exchange_order_id=str(body.orderId),
        )
        return _sound(fill)
    except ValueError as error:
        raise BadResponse(f"trade {body.id} of {body.symbol}: {_why(error)}") from error


def account_balances(body: AccountBody, asked_ns: int) -> list[BalanceReport]:
    """The balances that are not zero, as of the account's last update (or of asking, where it has none)."""
    at_ns = _when(body.updateTime, asked_ns)
    every = [_balance(entry.asset, entry.free, entry.locked, at_ns) for entry in body.balances]
    return [balance for balance in every if balance.free or balance.locked]


def position_balances(event: PositionEvent) -> list[BalanceReport]:
    """The balances of an outboundAccountPosition, zero ones included."""
    at_ns = _when(event.u, 0)
    return [_balance(entry.a, entry.f, entry.l, at_ns) for entry in event.B]


def _when(ms: int, otherwise_ns: int) -> int:
    try:
        return ms_to_ns(ms) if ms else otherwise_ns
    except TimestampError as error:
        raise BadResponse(f"account: {error}") from error


def _balance(asset: str, free: str, locked: str, at_ns: int) -> BalanceReport:
    try:
        return BalanceReport(asset=asset, free=exact(free), locked=exact(locked), at_ns=at_ns)
    except NumberError as error:
        raise BadResponse(f"balance of {asset}: {error}") from error


def _taken(fill: FillBody, order_id: str, at_ns: int) -> Executed:
    price, quantity = exact(fill.price), exact(fill.qty)
    return _sound(
        Executed(
            trade_id=str(fill.tradeId),
            price=price,
            quantity=quantity,
            quote_quantity=_EXACT.multiply(price, quantity),
            fee=exact(fill.commission),
            fee_asset=fill.commissionAsset,
            liquidity=Liquidity.TAKER,
            at_ns=at_ns,
            exchange_order_id=order_id,
        )
    )


def _sound(fill: Executed) -> Executed:
    """The fill, if its numbers agree with each other; raises ValueError for one that would book something that never happened."""
    if fill.price <= 0 or fill.quantity <= 0 or int(fill.trade_id) < 0:
        raise ValueError(f"trade {fill.trade_id} of {fill.quantity} at {fill.price} is no trade")
    off = _EXACT.subtract(_EXACT.multiply(fill.price, fill.quantity), fill.quote_quantity)
    if abs(off) > _QUOTE_ROUNDING:
        raise ValueError(f"trade {fill.trade_id}: {fill.quantity} at {fill.price} cost not {fill.quote_quantity}")
    return fill


def _consistent(report: OrderReport) -> OrderReport:
    """The report, if its quantities agree; raises ValueError."""
    filled, ordered = report.report.filled_quantity, report.terms.quantity
    with exact_arithmetic():
        told = sum((fill.quantity for fill in report.fills), Decimal(0))
    if not told <= filled or (ordered and filled > ordered):
        raise ValueError(f"{told} filled in trades, {filled} in all, of {ordered} ordered")
    return report


def _terms(
    native: str, side: str, kind: str, time_in_force: str, quantity: str, price: str, stop_price: str, symbol_of: SymbolOf
) -> OrderTerms:
    return OrderTerms(
        symbol=symbol_of(native),
        side=Side(side.lower()),
        order_type=TYPES[kind],
        quantity=exact(quantity),
        price=exact(price) or None,
        stop_price=exact(stop_price) or None,
        time_in_force=TIMES_IN_FORCE.get(time_in_force, TimeInForce.GTC),
    )


def _why(error: Exception) -> str:
    return f"undocumented value {error}" if isinstance(error, KeyError) else str(error)
