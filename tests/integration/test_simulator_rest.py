"""The simulator's REST API, spoken to by hand: shapes, signatures, refusals, limits."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from simulator.service import Simulator
from simulator.venues.binance.venue import BinanceVenue
from tests.support.simulators import Client, client, signed_query, simulator

ORDER = "/api/v3/order"
LIMIT = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.001", "price": "50000"}


@pytest.fixture
async def still(tmp_path: Path) -> AsyncIterator[Simulator]:
    """A simulator whose market stands still."""
    async with simulator(tmp_path, alive=False) as made:
        yield made


@pytest.fixture
async def api(still: Simulator) -> AsyncIterator[Client]:
    async with client(still.url) as made:
        yield made


async def test_public_data_has_the_documented_shapes(api: Client) -> None:
    assert (await api.get("/api/v3/ping"))[:2] == (200, {})
    _, clock, _ = await api.get("/api/v3/time")
    assert abs(clock["serverTime"] - time.time() * 1000) < 1000
    _, info, _ = await api.get("/api/v3/exchangeInfo")
    (symbol,) = info["symbols"]
    filters = {row["filterType"]: row for row in symbol["filters"]}
    assert (symbol["symbol"], symbol["baseAsset"], symbol["quoteAsset"]) == ("BTCUSDT", "BTC", "USDT")
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"
    _, book, headers = await api.get("/api/v3/depth", symbol="BTCUSDT", limit=5)
    assert len(book["bids"]) == len(book["asks"]) == 5
    assert float(book["bids"][0][0]) < float(book["asks"][0][0])
    assert int(headers["X-MBX-USED-WEIGHT-1M"]) == 1 + 1 + 20 + 5
    for path in ("/sapi/v1/capital/config/getall", "/sapi/v1/margin/allPairs", "/sapi/v1/margin/isolated/allPairs"):
        assert (await api.get(path))[:2] == (200, [])
    for path in ("/fapi/v1/exchangeInfo", "/dapi/v1/exchangeInfo"):
        assert (await api.get(path))[1]["symbols"] == []


async def test_the_market_has_a_past_that_leads_to_the_present(api: Client) -> None:
    _, rows, _ = await api.get("/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=1000)
    opens = [row[0] for row in rows]
    assert len(rows) >= 50
    assert all(later - earlier == 60_000 for earlier, later in itertools.pairwise(opens))
    assert all(float(row[3]) <= min(float(row[1]), float(row[4])) <= float(row[2]) for row in rows)
    _, ticker, _ = await api.get("/api/v3/ticker/price", symbol="BTCUSDT")
    assert float(ticker["price"]) == pytest.approx(float(rows[-1][4]), rel=1e-3)
    _, five, _ = await api.get("/api/v3/klines", symbol="BTCUSDT", interval="5m", limit=3)
    assert all(row[0] % 300_000 == 0 and row[6] == row[0] + 299_999 for row in five)


async def test_an_order_lives_and_dies_as_documented(api: Client) -> None:
    status, placed, headers = await api.signed("POST", ORDER, **LIMIT, newClientOrderId="mine-1")
    assert (status, placed["status"], placed["clientOrderId"], placed["fills"]) == (200, "NEW", "mine-1", [])
    assert headers["X-MBX-ORDER-COUNT-10S"] == "1"
    _, found, _ = await api.signed("GET", ORDER, symbol="BTCUSDT", origClientOrderId="mine-1")
    assert (found["orderId"], found["isWorking"], found["price"]) == (placed["orderId"], True, "50000.00000000")
    _, open_orders, _ = await api.signed("GET", "/api/v3/openOrders", symbol="BTCUSDT")
    assert [row["clientOrderId"] for row in open_orders] == ["mine-1"]
    _, account, _ = await api.signed("GET", "/api/v3/account", omitZeroBalances="true")
    assert {row["asset"]: row["locked"] for row in account["balances"]}["USDT"] == "50.00000000"
    _, cancelled, _ = await api.signed("DELETE", ORDER, symbol="BTCUSDT", orderId=placed["orderId"])
    assert (cancelled["status"], cancelled["origClientOrderId"]) == ("CANCELED", "mine-1")
    assert (await api.signed("DELETE", ORDER, symbol="BTCUSDT", orderId=placed["orderId"]))[1]["code"] == -2011


async def test_a_market_order_fills_with_its_fee_in_what_it_received(api: Client) -> None:
    _, filled, _ = await api.signed("POST", ORDER, symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.002")
    assert (filled["status"], filled["executedQty"]) == ("FILLED", "0.00200000")
    assert {row["commissionAsset"] for row in filled["fills"]} == {"BTC"}
    assert sum(float(row["commission"]) for row in filled["fills"]) == pytest.approx(0.000002)
    _, trades, _ = await api.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT")
    assert [row["id"] for row in trades] == [row["tradeId"] for row in filled["fills"]]
    _, public, _ = await api.get("/api/v3/historicalTrades", symbol="BTCUSDT", fromId=trades[0]["id"])
    assert [row["id"] for row in public] == [row["id"] for row in trades]
    _, all_orders, _ = await api.signed("GET", "/api/v3/allOrders", symbol="BTCUSDT")
    assert [row["status"] for row in all_orders] == ["FILLED"]


async def test_a_client_order_id_may_be_used_again_once_its_order_is_filled(api: Client) -> None:
    """Identity class C: unique among open orders only."""
    await api.signed("POST", ORDER, **LIMIT, newClientOrderId="twice")
    status, again, _ = await api.signed("POST", ORDER, **LIMIT, newClientOrderId="twice")
    assert (status, again) == (400, {"code": -2010, "msg": "Duplicate order sent."})
    await api.signed("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="twice")
    market = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001", "newClientOrderId": "twice"}
    orders = [(await api.signed("POST", ORDER, **market))[1]["orderId"] for _ in range(2)]
    assert orders[0] < orders[1]
    _, found, _ = await api.signed("GET", ORDER, symbol="BTCUSDT", origClientOrderId="twice")
    assert found["orderId"] == orders[1]


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"symbol": "NOPE"}, -1121, "Invalid symbol."),
        ({"symbol": "btcusdt"}, -1100, "Illegal characters found in parameter 'symbol'"),
        ({"side": "UP"}, -1117, "Invalid side."),
        ({"type": "LIMITED"}, -1116, "Invalid orderType."),
        ({"timeInForce": "GTX"}, -1115, "Invalid timeInForce."),
        ({"price": None}, -1102, "Mandatory parameter 'price'"),
        ({"price": "1e5"}, -1100, "Illegal characters found in parameter 'price'"),
        ({"price": "50000.123456789"}, -1111, "Parameter 'price' has too much precision."),
        ({"price": "50000.001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"price": "500"}, -1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
        ({"quantity": "0.000011"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "0.00002"}, -1013, "Filter failure: NOTIONAL"),
        ({"quantity": "10"}, -2010, "Account has insufficient balance for requested action."),
        ({"type": "LIMIT_MAKER", "timeInForce": None, "price": "70000"}, -2010, "Order would immediately match and take."),
        ({"type": "STOP_LOSS_LIMIT", "stopPrice": "50000"}, -2010, "Order would trigger immediately."),
        ({"newClientOrderId": "a b"}, -1100, "Illegal characters found in parameter 'newClientOrderId'"),
        ({"recvWindow": "60001"}, -1131, "recvWindow must be less than 60000"),
        ({"timestamp": int(time.time() * 1000) - 60_000}, -1021, "Timestamp for this request is outside of the recvWindow."),
        ({"timestamp": int(time.time() * 1000) + 3_600_000}, -1021, "Timestamp for this request was 1000ms ahead"),
    ],
)
async def test_a_wrong_order_is_refused_with_the_documented_code(
    api: Client, changes: dict[str, Any], code: int, text: str
) -> None:
    params = {name: value for name, value in {**LIMIT, **changes}.items() if value is not None}
    status, body, _ = await api.signed("POST", ORDER, **params)
    assert (status, body["code"]) == (400, code)
    assert body["msg"].startswith(text)


async def test_only_the_right_signature_over_exactly_what_was_sent_opens_the_account(api: Client) -> None:
    query = signed_query(LIMIT)
    assert (await api.request("POST", ORDER, query))[1]["code"] == -2014
    assert (await api.request("POST", ORDER, query, "nobody"))[:2] == (
        401,
        {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."},
    )
    assert (await api.request("POST", ORDER, query.replace("0.001", "0.002"), "simulator"))[1]["code"] == -1022
    assert (await api.request("POST", ORDER, query.rpartition("&")[0], "simulator"))[1]["code"] == -1102
    assert (await api.request("POST", ORDER, query + "&symbol=BTCUSDT", "simulator"))[1]["code"] == -1101
    assert (await api.request("POST", ORDER, query.replace("=BTCUSDT", "=%42TCUSDT"), "simulator"))[1]["code"] == -1022
    assert (await api.request("POST", ORDER, query, "simulator"))[0] == 200


async def test_cancel_all_and_cancel_replace(api: Client) -> None:
    first = (await api.signed("POST", ORDER, **LIMIT))[1]
    replaced = await api.signed(
        "POST",
        "/api/v3/order/cancelReplace",
        **{**LIMIT, "price": "50001"},
        cancelReplaceMode="STOP_ON_FAILURE",
        cancelOrderId=first["orderId"],
    )
    assert (replaced[0], replaced[1]["cancelResult"], replaced[1]["newOrderResult"]) == (200, "SUCCESS", "SUCCESS")
    failed = await api.signed(
        "POST", "/api/v3/order/cancelReplace", **LIMIT, cancelReplaceMode="ALLOW_FAILURE", cancelOrderId=first["orderId"]
    )
    assert (failed[0], failed[1]["code"], failed[1]["data"]["newOrderResult"]) == (409, -2021, "SUCCESS")
    _, rows, _ = await api.signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    assert [row["status"] for row in rows] == ["CANCELED", "CANCELED"]
    assert (await api.signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT"))[1]["code"] == -2011


async def test_too_much_weight_is_429_and_going_on_is_418(still: Simulator, api: Client) -> None:
    assert isinstance(still.venue, BinanceVenue)
    still.venue.limits.weight_per_minute = 10
    statuses, retry_after = [], []
    for _ in range(24):
        status, body, headers = await api.get("/api/v3/ping")
        statuses.append(status)
        if status != 200:
            assert body["code"] == -1003
            retry_after.append(int(headers["Retry-After"]))
    assert statuses == sorted(statuses, key=(200, 429, 418).index)
    assert {429, 418} <= set(statuses)
    assert min(retry_after) >= 1
    assert retry_after[-1] > 60


async def test_too_many_unfilled_orders_are_429(still: Simulator, api: Client) -> None:
    assert isinstance(still.venue, BinanceVenue)
    still.venue.limits.orders_per_day = 1
    market = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001"}
    assert (await api.signed("POST", ORDER, **market))[0] == 200  # it traded, so it does not count
    assert (await api.signed("POST", ORDER, **LIMIT))[0] == 200
    status, body, _ = await api.signed("POST", ORDER, **LIMIT)
    assert (status, body["code"]) == (429, -1015)
