"""The simulator's sockets: market streams that agree with REST, the WebSocket API, and the rules of connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulator.service import Simulator
from simulator.venues.binance.venue import BinanceVenue
from tests.support.simulators import Client, client, frame, simulator, ws_request
from tests.support.waiting import eventually


@pytest.fixture
async def lively(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with simulator(tmp_path) as made:
        yield made


@pytest.fixture
async def api(lively: Simulator) -> AsyncIterator[Client]:
    async with client(lively.url) as made:
        yield made


async def collect(socket: aiohttp.ClientWebSocketResponse, wanted: dict[str, int]) -> dict[str, list[Any]]:
    """Frames of a combined connection by stream, until there are enough of each."""
    found: dict[str, list[Any]] = {name: [] for name in wanted}
    while any(len(found[name]) < count for name, count in wanted.items()):
        message = await frame(socket)
        found.setdefault(message["stream"], []).append(message["data"])
    return found


async def test_a_book_kept_from_diffs_equals_the_snapshot(api: Client) -> None:
    async with api.socket("/stream?streams=btcusdt@depth@100ms") as socket:
        first = (await frame(socket))["data"]
        _, snapshot, _ = await api.get("/api/v3/depth", symbol="BTCUSDT", limit=5000)
        sides = {"b": dict(snapshot["bids"]), "a": dict(snapshot["asks"])}
        last = snapshot["lastUpdateId"]
        assert last >= first["u"]
        for _ in range(8):
            diff = (await frame(socket))["data"]
            if diff["u"] <= last:
                continue
            assert diff["U"] <= last + 1
            last = diff["u"]
            for side, levels in sides.items():
                for price, size in diff[side]:
                    levels[price] = size
        _, later, _ = await api.get("/api/v3/depth", symbol="BTCUSDT", limit=5000)
        while last < later["lastUpdateId"]:
            diff = (await frame(socket))["data"]
            assert diff["U"] == last + 1
            last = diff["u"]
            for side, levels in sides.items():
                for price, size in diff[side]:
                    levels[price] = size
    if last == later["lastUpdateId"]:
        for side, name in (("b", "bids"), ("a", "asks")):
            assert {price: size for price, size in sides[side].items() if float(size)} == dict(later[name])


async def test_every_stream_flows_with_the_documented_fields(api: Client) -> None:
    streams = (
        "trade",
        "aggTrade",
        "bookTicker",
        "depth@100ms",
        "depth5@100ms",
        "depth",
        "ticker",
        "miniTicker",
        "kline_1m",
        "avgPrice",
    )
    names = {f"btcusdt@{name}": 1 for name in streams} | {"btcusdt@trade": 3}
    async with api.socket("/stream?streams=" + "/".join(names)) as socket:
        found = await collect(socket, names)
    data = {name: found[f"btcusdt@{name}"][0] for name in streams}
    ids = [trade["t"] for trade in found["btcusdt@trade"]]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert set(data["trade"]) == {"e", "E", "s", "t", "p", "q", "T", "m", "M"}
    assert set(data["aggTrade"]) == {"e", "E", "s", "a", "p", "q", "f", "l", "T", "m", "M"}
    assert set(data["bookTicker"]) == {"u", "s", "b", "B", "a", "A"}
    assert set(data["depth5@100ms"]) == {"lastUpdateId", "bids", "asks"}
    assert set(data["ticker"]) == {
        "e",
        "E",
        "s",
        "p",
        "P",
        "w",
        "x",
        "c",
        "Q",
        "b",
        "B",
        "a",
        "A",
        "o",
        "h",
        "l",
        "v",
        "q",
        "O",
        "C",
        "F",
        "L",
        "n",
    }
    assert set(data["miniTicker"]) == {"e", "E", "s", "c", "o", "h", "l", "v", "q"}
    assert set(data["kline_1m"]["k"]) == {"t", "T", "s", "i", "f", "L", "o", "c", "h", "l", "v", "n", "x", "q", "V", "Q", "B"}


async def test_subscriptions_are_changed_over_the_connection(api: Client) -> None:
    async with api.socket("/ws") as socket:
        await socket.send_str('{"method":"SUBSCRIBE","params":["btcusdt@bookTicker"],"id":7}')
        assert await frame(socket) == {"result": None, "id": 7}
        assert (await frame(socket))["s"] == "BTCUSDT"
        await socket.send_str('{"method":"LIST_SUBSCRIPTIONS","id":"x"}')
        assert await answer(socket, "x") == {"result": ["btcusdt@bookTicker"], "id": "x"}
        await socket.send_str('{"method":"UNSUBSCRIBE","params":["btcusdt@bookTicker"],"id":9}')
        assert await answer(socket, 9) == {"result": None, "id": 9}
        await socket.send_str('{"method":"SHOUT","id":1}')
        assert (await frame(socket))["code"] == 2
    async with api.socket("/stream/ws/0") as socket:
        await socket.send_str("{")
        assert (await frame(socket))["code"] == 3
        await socket.send_str('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}')
        assert (await answer(socket, 1))["result"] is None
        assert (await frame(socket))["stream"] == "btcusdt@trade"


async def answer(socket: aiohttp.ClientWebSocketResponse, request_id: object) -> Any:
    while True:
        message = await frame(socket)
        if message.get("id") == request_id:
            return message


async def closed(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """The close code, once the server has closed."""
    while not socket.closed:
        await socket.receive(timeout=10)
    return socket.close_code


async def test_more_than_five_messages_a_second_end_the_connection(api: Client) -> None:
    async with api.socket("/ws") as socket:
        for number in range(6):
            await socket.send_str(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
        assert await closed(socket) == 1008


async def test_pings_carry_a_payload_and_a_client_without_pongs_is_cut_off(lively: Simulator, api: Client) -> None:
    assert isinstance(lively.venue, BinanceVenue)
    lively.venue.rules.ping_every_s, lively.venue.rules.pong_timeout_s = 0.05, 0.5
    async with aiohttp.ClientSession() as session, session.ws_connect(api.ws_url + "/ws", autoping=False) as socket:
        ping = await socket.receive(timeout=5)
        assert ping.type is aiohttp.WSMsgType.PING
        assert int(ping.data) > 0
        assert await closed(socket) == 1008


async def test_a_connection_has_an_end(lively: Simulator, api: Client) -> None:
    assert isinstance(lively.venue, BinanceVenue)
    lively.venue.rules.life_s = 0.2
    async with api.socket("/ws/btcusdt@trade") as socket:
        assert await closed(socket) == 1001


async def test_a_stopping_server_says_so(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as session:
        async with simulator(tmp_path) as made:
            raw = await session.ws_connect(made.url + "/ws/btcusdt@none")
            combined = await session.ws_connect(made.url + "/stream?streams=btcusdt@none")
            await eventually(lambda: len(made.venue.hub.subscribers) == 2)  # type: ignore[attr-defined]
        assert (await frame(raw))["e"] == "serverShutdown"
        assert (await frame(combined))["stream"] == "!serverShutdown"
        await raw.close()
        await combined.close()


# -- the WebSocket API ------------------------------------------------------------------------------------------------------

LIMIT = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.001", "price": "50000"}


async def call(socket: aiohttp.ClientWebSocketResponse, method: str, **params: Any) -> Any:
    await socket.send_str(ws_request(method, method, **params))
    return await answer(socket, method)


async def test_orders_over_the_websocket_api_and_their_events(api: Client) -> None:
    async with api.socket("/ws-api/v3") as orders, api.socket("/ws-api/v3") as events:
        assert (await call(events, "userDataStream.subscribe.signature"))["result"] == {"subscriptionId": 0}
        assert (await call(events, "userDataStream.subscribe.signature"))["error"]["code"] == -2035
        placed = await call(orders, "order.place", **LIMIT, newClientOrderId="ws-1")
        assert (placed["status"], placed["result"]["status"]) == (200, "NEW")
        assert placed["rateLimits"][0]["rateLimitType"] == "REQUEST_WEIGHT"
        report, position = await frame(events), await frame(events)
        assert report["subscriptionId"] == 0
        assert (report["event"]["e"], report["event"]["x"], report["event"]["X"], report["event"]["c"]) == (
            "executionReport",
            "NEW",
            "NEW",
            "ws-1",
        )
        assert report["event"]["w"] is True
        assert {row["a"]: row["l"] for row in position["event"]["B"]} == {"BTC": "0.00000000", "USDT": "50.00000000"}
        assert (await call(orders, "order.status", symbol="BTCUSDT", origClientOrderId="ws-1"))["result"]["status"] == "NEW"
        assert len((await call(orders, "openOrders.status"))["result"]) == 1
        cancelled = await call(orders, "order.cancel", symbol="BTCUSDT", origClientOrderId="ws-1", newClientOrderId="cancel-1")
        assert (cancelled["result"]["clientOrderId"], cancelled["result"]["origClientOrderId"]) == ("cancel-1", "ws-1")
        report = (await frame(events))["event"]
        assert (report["x"], report["c"], report["C"]) == ("CANCELED", "cancel-1", "ws-1")
        await frame(events)
        filled = await call(orders, "order.place", symbol="BTCUSDT", side="SELL", type="MARKET", quantity="0.001")
        assert filled["result"]["status"] == "FILLED"
        reports = [(await frame(events))["event"] for _ in range(1 + len(filled["result"]["fills"]))]
        assert [row["x"] for row in reports] == ["NEW"] + ["TRADE"] * len(filled["result"]["fills"])
        assert (reports[-1]["X"], reports[-1]["N"], reports[-1]["z"]) == ("FILLED", "USDT", "0.00100000")
        assert (await call(orders, "openOrders.cancelAll", symbol="BTCUSDT"))["error"]["code"] == -2011
        assert len((await call(orders, "myTrades", symbol="BTCUSDT"))["result"]) == len(filled["result"]["fills"])
        assert (await call(events, "userDataStream.unsubscribe", subscriptionId=0))["result"] == {}


async def test_what_the_websocket_api_refuses(api: Client) -> None:
    async with api.socket("/ws-api/v3") as socket:
        assert (await call(socket, "session.logon"))["error"]["code"] == -4056
        assert (await call(socket, "order.fly"))["error"]["code"] == -1020
        await socket.send_str(ws_request("order.place", 1, sign=False, **LIMIT))
        assert (await answer(socket, 1))["error"]["code"] == -2014
        await socket.send_str(ws_request("order.place", 2, **LIMIT).replace("0.001", "0.002"))
        assert (await answer(socket, 2))["error"]["code"] == -1022
        await socket.send_str("not json")
        assert (await frame(socket))["status"] == 400
        assert (await call(socket, "order.place", **{**LIMIT, "timestamp": 1}))["error"]["code"] == -1021
        assert (await call(socket, "ping"))["result"] == {}


async def test_a_deposit_is_told(api: Client) -> None:
    async with api.socket("/ws-api/v3") as socket, aiohttp.ClientSession() as session:
        await call(socket, "userDataStream.subscribe.signature")
        async with session.post(api.url + "/simulator/deposits", json={"asset": "USDT", "amount": "12.5"}) as response:
            assert response.status == 200
        events = [(await frame(socket))["event"] for _ in range(2)]
    assert [event["e"] for event in events] == ["outboundAccountPosition", "balanceUpdate"]
    assert events[1]["d"] == "12.50000000"


# -- speed --------------------------------------------------------------------------------------------------------------------


async def test_five_hundred_orders_go_through_one_connection_within_seconds(lively: Simulator, api: Client) -> None:
    assert isinstance(lively.venue, BinanceVenue)
    lively.venue.limits.orders_per_10_s = lively.venue.limits.orders_per_day = 10_000
    lively.venue.limits.weight_per_minute = 100_000
    market = {"symbol": "BTCUSDT", "type": "MARKET", "quantity": "0.0002"}
    async with api.socket("/ws-api/v3") as socket:
        async with asyncio.timeout(10):
            for number in range(500):
                await socket.send_str(ws_request("order.place", number, **market, side="BUY" if number % 2 else "SELL"))
            answers = [await frame(socket) for _ in range(500)]
    assert [message["id"] for message in answers] == list(range(500))
    assert {message["status"] for message in answers} == {200}
