"""Binance spot's private wire: signatures, error codes and account events, against the documentation's own examples."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from common_models import Liquidity, OrderStatus, OrderType, Side, TimeInForce
from connectors.errors import (
    AnswerLost,
    AuthError,
    BadResponse,
    ClockRefused,
    DuplicateOrder,
    ExchangeError,
    OrderNotFound,
    OrderRejected,
    RateLimited,
    TransientError,
)
from connectors.exchanges.binance.error_codes import read_error
from connectors.exchanges.binance.order_wire import (
    ExecutionEvent,
    OrderBody,
    PositionEvent,
    TradeBody,
    execution,
    order_report,
    position_balances,
    trade,
)
from connectors.exchanges.binance.orders import ApiFraming
from connectors.exchanges.binance.signing import BinanceSigner
from connectors.exchanges.binance.symbols import split_native
from connectors.rate_budget import Lane, RateBudget
from connectors.venue_clock import VenueClock

SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"


def signer(recv_window_ms: int = 5000) -> BinanceSigner:
    return BinanceSigner(KEY, SECRET, VenueClock(), recv_window_ms)


def test_rest_signature_matches_the_documentation() -> None:
    params = {
        "symbol": "LTCBTC", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "0.1",
        "recvWindow": "5000", "timestamp": "1499827319559",
    }  # fmt: skip
    request = signer().sign("POST", "/api/v3/order", params)
    assert request.query.endswith("&signature=c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71")
    assert request.headers == {"X-MBX-APIKEY": KEY}


@pytest.mark.parametrize(
    ("symbol", "quantity", "price", "side", "window", "signature"),
    [
        ("BTCUSDT", "0.01000000", "52000.00", "SELL", 100, "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24"),
        ("１２３４５６", "1.00000000", "0.10000000", "BUY", 5000, "b33892ae8e687c939f4468c6268ddd4c40ac1af18ad19a064864c47bae0752cd"),  # noqa: RUF001 the documentation's own example
    ],
)  # fmt: skip
def test_websocket_signatures_match_the_documentation(
    symbol: str, quantity: str, price: str, side: str, window: int, signature: str
) -> None:
    params = {"symbol": symbol, "side": side, "type": "LIMIT", "timeInForce": "GTC", "quantity": quantity, "price": price}
    signed = signer(window).ws_params(params, 1645423376532)
    assert signed["signature"] == signature
    assert (signed["timestamp"], signed["recvWindow"]) == (1645423376532, window)


def test_non_ascii_parameters_are_encoded_before_they_are_signed() -> None:
    one = signer()
    query, _, signature = one.sign("GET", "/x", {"symbol": "币安", "timestamp": "1"}).query.partition("&signature=")
    assert query == "symbol=%E5%B8%81%E5%AE%89&timestamp=1&recvWindow=5000"
    assert signature == one.signature(query)


def test_the_secret_shows_nowhere() -> None:
    assert SECRET not in repr(signer()) + str(vars(signer()).keys())


@pytest.mark.parametrize(
    ("status", "code", "text", "kind"),
    [
        (503, -1000, "x", AnswerLost),
        (500, -2010, "even this", AnswerLost),
        (400, -1000, "An unknown error occurred", AnswerLost),
        (400, -1001, "Internal error", AnswerLost),
        (400, -1006, "x", AnswerLost),
        (408, -1007, "Timeout waiting for response", AnswerLost),
        (429, -1003, "Too much request weight used", RateLimited),
        (418, -1003, "banned", RateLimited),
        (400, -1015, "Too many new orders", RateLimited),
        (400, -1021, "outside of the recvWindow", ClockRefused),
        (400, -1022, "Signature", AuthError),
        (401, -2014, "API-key format invalid.", AuthError),
        (401, -2015, "Invalid API-key, IP, or permissions", AuthError),
        (400, -1008, "overloaded", TransientError),
        (400, -1013, "Filter failure: LOT_SIZE", OrderRejected),
        (400, -1111, "precision", OrderRejected),
        (400, -1121, "Invalid symbol.", OrderRejected),
        (400, -2010, "Account has insufficient balance for requested action.", OrderRejected),
        (400, -2010, "Order would immediately match and take.", OrderRejected),
        (400, -2010, "Duplicate order sent.", DuplicateOrder),
        (400, -2011, "Unknown order sent.", OrderNotFound),
        (400, -2011, "Order was not canceled due to cancel restrictions.", OrderRejected),
        (400, -2013, "Order does not exist.", OrderNotFound),
        (400, -2026, "archived", OrderNotFound),
    ],
)
def test_every_code_says_what_the_caller_may_do(status: int, code: int, text: str, kind: type[ExchangeError]) -> None:
    error = read_error(status, json.dumps({"code": code, "msg": text}).encode())
    assert type(error) is kind
    assert error.code == str(code)
    assert error.detail.startswith(text)


@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad Gateway</html>", b"[]", b'{"code": "x"}', b"\xff", b'{"msg": "no code"}', b"[" * 5000]
)
@pytest.mark.parametrize("status", [302, 400, 404, 500, 502])
def test_a_body_that_is_not_the_venues_proves_nothing(status: int, body: bytes) -> None:
    assert type(read_error(status, body)) is AnswerLost


def test_an_answer_tells_its_limits_and_a_refusal_silences() -> None:
    budget = RateBudget(6000, ((50, 10),))
    framing = ApiFraming(budget)
    limits = [
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100, "count": 12},
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000, "count": 321},
    ]
    frame = framing.read(json.dumps({"id": 7, "status": 200, "result": {"a": 1}, "rateLimits": limits}).encode())
    assert (frame.number, bytes(frame.result), frame.error) == (7, b'{"a": 1}', None)
    assert budget.used_weight == 321

    data = {"serverTime": 1000, "retryAfter": 31_000}
    refusal = {"id": 8, "status": 429, "error": {"code": -1003, "msg": "slow", "data": data}}
    frame = framing.read(json.dumps(refusal).encode())
    assert isinstance(frame.error, RateLimited)
    assert budget.silent_s == pytest.approx(30, abs=1)
    assert budget.wait_s(1, Lane.CANCEL) > 0

    event = framing.read(b'{"subscriptionId": 0, "event": {"e": "x"}}')
    assert (event.number, bytes(event.event)) == (None, b'{"e": "x"}')
    for bad in (b"", b"[]", b"{}", b'{"id": "x"}', b"\x00", b'{"id": 1}', b"[" * 10_000):
        with pytest.raises(BadResponse):
            framing.read(bad)


PLACED = json.loads(
    '{"symbol":"BTCUSDT","orderId":28,"orderListId":-1,"clientOrderId":"abc","transactTime":1760000000300,"price":"0.00000000",'
    '"origQty":"0.01000000","executedQty":"0.01000000","origQuoteOrderQty":"0.000000","cummulativeQuoteQty":"500.00100000",'
    '"status":"FILLED","timeInForce":"GTC","type":"MARKET","side":"BUY","workingTime":1760000000300,"selfTradePreventionMode":"NONE",'
    '"fills":[{"price":"50000.10","qty":"0.01000000","commission":"0.00001000","commissionAsset":"BTC","tradeId":56}]}'
)
EVENT = json.loads(
    '{"e":"executionReport","E":1760000000301,"s":"BTCUSDT","c":"abc","S":"BUY","o":"LIMIT","f":"GTC","q":"0.01000000",'
    '"p":"50000.00000000","P":"0.00000000","F":"0.00000000","g":-1,"C":"","x":"TRADE","X":"PARTIALLY_FILLED","r":"NONE","i":28,'
    '"l":"0.00400000","z":"0.00400000","L":"50000.00000000","n":"0.00000400","N":"BTC","T":1760000000300,"t":57,"I":9001,"w":true,'
    '"m":true,"M":true,"O":1760000000100,"Z":"200.00000000","Y":"200.00000000","Q":"0.00000000","V":"NONE"}'
)


def placed(**changes: Any) -> OrderBody:
    return msgspec.convert(PLACED | changes, OrderBody)


def event(**changes: Any) -> ExecutionEvent:
    return msgspec.convert(EVENT | changes, ExecutionEvent)


def test_a_full_answer_becomes_an_order_and_its_fills() -> None:
    report = order_report(placed(), split_native)
    assert (report.client_order_id, report.terms.symbol, report.terms.order_type) == ("abc", "BTC/USDT", OrderType.MARKET)
    assert (report.report.status, report.report.exchange_order_id) == (OrderStatus.FILLED, "28")
    assert report.report.filled_quote == Decimal("500.001")
    (fill,) = report.fills
    assert (fill.trade_id, fill.quote_quantity, fill.fee, fill.fee_asset) == ("56", Decimal("500.001"), Decimal("0.00001"), "BTC")
    assert fill.liquidity is Liquidity.TAKER
    assert fill.at_ns == 1760000000300 * 10**6


def test_an_execution_report_becomes_the_same_facts() -> None:
    report = execution(event(), split_native)
    (fill,) = report.fills
    assert (fill.trade_id, fill.quantity, fill.quote_quantity, fill.liquidity) == (
        "57",
        Decimal("0.004"),
        Decimal(200),
        Liquidity.MAKER,
    )
    assert report.report.status is OrderStatus.PARTIALLY_FILLED
    assert (report.terms.side, report.terms.price, report.terms.stop_price) == (Side.BUY, Decimal(50000), None)


def test_the_answer_and_the_event_of_one_fill_are_one_fact() -> None:
    from trading.order_state import Knowledge

    known = Knowledge()
    (told,) = order_report(placed(), split_native).fills
    known.add(told)
    pushed = execution(
        event(t=56, l="0.01", z="0.01", L="50000.10", n="0.00001", m=False, Y="500.00100000", X="FILLED"), split_native
    )
    assert not known.add(pushed.fills[0])


def test_a_cancel_is_told_under_the_orders_own_id() -> None:
    report = execution(event(x="CANCELED", X="CANCELED", c="cancel-request", C="abc", t=-1), split_native)
    assert (report.client_order_id, report.report.status, report.fills) == ("abc", OrderStatus.CANCELED, ())


@pytest.mark.parametrize("status", ["EXPIRED", "EXPIRED_IN_MATCH"])
def test_expiry_names_its_reason(status: str) -> None:
    report = execution(event(x="EXPIRED", X=status, eR="UNFILLED_IOC_QUANTITY_EXPIRED", f="IOC", t=-1, N=None), split_native)
    assert (report.report.status, report.report.reason) == (OrderStatus.EXPIRED, "UNFILLED_IOC_QUANTITY_EXPIRED")
    assert report.terms.time_in_force is TimeInForce.IOC


@pytest.mark.parametrize(
    "changes",
    [{"status": "MYSTERY"}, {"side": "HOLD"}, {"origQty": "NaN"}, {"origQty": "1e999999"}, {"transactTime": 5}, {"type": "?"}],
)
def test_an_undocumented_order_is_unreadable_and_not_guessed(changes: dict[str, Any]) -> None:
    with pytest.raises(BadResponse):
        order_report(placed(**changes), split_native)


@pytest.mark.parametrize("changes", [{"X": "MYSTERY"}, {"q": "1e9999999"}, {"L": "١٢"}, {"T": 1}])
def test_an_undocumented_event_is_unreadable_and_not_guessed(changes: dict[str, Any]) -> None:
    with pytest.raises(BadResponse):
        execution(event(**changes), split_native)


def test_balances_of_a_push() -> None:
    pushed = msgspec.convert({"u": 1760000000301, "B": [{"a": "BTC", "f": "1.00400000", "l": "0.50000000"}]}, PositionEvent)
    (balance,) = position_balances(pushed)
    assert (balance.asset, balance.free, balance.locked, balance.at_ns) == (
        "BTC",
        Decimal("1.004"),
        Decimal("0.5"),
        1760000000301 * 10**6,
    )


ORDER_KEYS = frozenset({"symbol", "orderId", "clientOrderId", "origQty", "executedQty", "cummulativeQuoteQty", "status", "side"})
TRADE_KEYS = frozenset({"symbol", "id", "orderId", "price", "qty", "quoteQty", "commission", "isMaker"})


@pytest.mark.recorded
def test_every_recorded_order_fill_and_event_is_read(recorded_dir: Path) -> None:
    """Replies and events of the documentation and of other projects' recordings, as they came off the wire."""
    orders = trades = events = 0
    for path in sorted((recorded_dir / "rest" / "binance_spot").glob("*.json")):
        for record in json.loads(path.read_text()):
            for node in _objects(record.get("raw")):
                if node.keys() >= ORDER_KEYS and isinstance(node["orderId"], int):  # text in edited samples
                    orders += 1
                    report = order_report(msgspec.convert(node, OrderBody), str)
                    assert report.terms.quantity == Decimal(node["origQty"])
                elif node.keys() >= TRADE_KEYS:
                    trades += 1
                    assert trade(msgspec.convert(node, TradeBody)).quantity == Decimal(node["qty"])
                elif node.get("e") == "executionReport":
                    events += 1
                    assert execution(msgspec.convert(node, ExecutionEvent), str).report.exchange_order_id == str(node["i"])
    assert orders > 20
    assert trades > 2
    assert events > 10


def _objects(raw: Any) -> Any:
    """Every JSON object in a recorded text."""
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except ValueError:
            return
    if isinstance(raw, dict):
        yield raw
    for child in raw.values() if isinstance(raw, dict) else raw if isinstance(raw, list) else ():
        if not isinstance(child, str):
            yield from _objects(child)
