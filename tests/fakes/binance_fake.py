"""A scripted Binance spot for order tests: REST and the WebSocket API on one port, faults on demand, and a ledger of what was accepted.

It keeps Binance's identity class C (a client order id is unique among open orders only), checks signatures and time windows, and counts
every request, so that a test can hold the connector to what really reached the venue.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import WSMsgType, web

KEY, SECRET = "simulator", "simulator"


@dataclass
class FakeOrder:
    """One accepted order."""

    order_id: int
    client_id: str
    params: dict[str, str]
    received_ns: int
    status: str = "NEW"
    executed: Decimal = Decimal(0)
    quote: Decimal = Decimal(0)

    @property
    def open(self) -> bool:
        return self.status in ("NEW", "PARTIALLY_FILLED")


@dataclass(frozen=True)
class Fault:
    """What happens to one request. `accept` says whether it takes effect; then the answer is late, missing or wrong."""

    accept: bool = True
    delay_s: float = 0.0
    close: bool = False
    hang: bool = False
    error: tuple[int, int, str] | None = None
    raw: str | None = None
    without: str = ""
    fill: bool = False
    silent: bool = False  # no account event either


OK = Fault()


class FakeError(Exception):
    def __init__(self, status: int, code: int, text: str) -> None:
        self.status, self.code, self.text = status, code, text


@dataclass
class FakeBinance:
    """Start with `async with FakeBinance().running() as fake`."""

    orders: list[FakeOrder] = field(default_factory=list)
    trades: list[dict[str, Any]] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)
    requests: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    balances: dict[str, Decimal] = field(default_factory=lambda: {"USDT": Decimal(100000), "BTC": Decimal(1)})
    clock_offset_ms: int = 0
    query_faults: deque[Fault] = field(default_factory=deque)
    hide_orders: bool = False
    refuse_sockets: bool = False
    push_events: bool = True
    port: int = 0

    def __post_init__(self) -> None:
        self.sockets: set[web.WebSocketResponse] = set()
        self.subscribed: set[web.WebSocketResponse] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_api_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws-api/v3"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FakeBinance]:
        app = web.Application()
        app.router.add_get("/api/v3/time", self._time)
        app.router.add_route("*", "/api/v3/order", self._rest_order)
        app.router.add_get("/api/v3/openOrders", self._open_orders)
        app.router.add_get("/api/v3/myTrades", self._my_trades)
        app.router.add_get("/api/v3/account", self._account)
        app.router.add_get("/ws-api/v3", self._ws)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            for task in self._tasks:
                task.cancel()
            await self.drop_sockets()
            await runner.cleanup()

    async def drop_sockets(self) -> None:
        """End every websocket without a goodbye."""
        for socket in list(self.sockets):
            with contextlib.suppress(Exception):
                assert socket._req is not None
                assert socket._req.transport is not None
                socket._req.transport.abort()
        self.sockets.clear()
        self.subscribed.clear()

    def accepted(self, client_id: str) -> list[FakeOrder]:
        return [order for order in self.orders if order.client_id == client_id]

    # the venue

    def place(self, params: dict[str, str], *, fill: bool = False, silent: bool = False) -> FakeOrder:
        client_id = params["newClientOrderId"]
        if any(order.client_id == client_id and order.open for order in self.orders):
            raise FakeError(400, -2010, "Duplicate order sent.")
        order = FakeOrder(len(self.orders) + 1, client_id, params, time.time_ns())
        self.orders.append(order)
        if fill or params["type"] == "MARKET":
            self._execute(order, Decimal(params["quantity"]))
        if not silent:
            self.tell(order, "NEW" if order.status == "NEW" else "TRADE")
        return order

    def fill(self, order: FakeOrder, quantity: str, *, silent: bool = False) -> None:
        """Execute a part of an order, even of one that has ended (a late fill)."""
        self._execute(order, Decimal(quantity))
        if not silent:
            self.tell(order, "TRADE")

    def cancel(self, client_id: str, *, silent: bool = False) -> FakeOrder:
        for order in reversed(self.orders):
            if order.client_id == client_id and order.open:
                order.status = "CANCELED"
                if not silent:
                    self.tell(order, "CANCELED")
                return order
        raise FakeError(400, -2011, "Unknown order sent.")

    def _execute(self, order: FakeOrder, quantity: Decimal) -> None:
        price = Decimal(order.params.get("price", "100"))
        order.executed += quantity
        order.quote += quantity * price
        if order.status in ("NEW", "PARTIALLY_FILLED"):
            order.status = "FILLED" if order.executed >= Decimal(order.params["quantity"]) else "PARTIALLY_FILLED"
        self.trades.append(
            {
                "symbol": order.params["symbol"], "id": len(self.trades) + 1, "orderId": order.order_id, "price": str(price),
                "qty": str(quantity), "quoteQty": str(quantity * price), "commission": "0.001", "commissionAsset": "BNB",
                "time": self._now_ms(), "isBuyer": order.params["side"] == "BUY", "isMaker": False,
            }
        )  # fmt: skip

    def tell(self, order: FakeOrder, kind: str) -> None:
        """Push an executionReport to every subscribed socket."""
        if not self.push_events:
            return
        last = (
            next((trade for trade in reversed(self.trades) if trade["orderId"] == order.order_id), None)
            if kind == "TRADE"
            else None
        )
        params = order.params
        event = {
            "e": "executionReport", "E": self._now_ms(), "s": params["symbol"], "c": order.client_id, "S": params["side"],
            "o": params["type"], "f": params.get("timeInForce", "GTC"), "q": params["quantity"], "p": params.get("price", "0"),
            "P": params.get("stopPrice", "0"), "F": "0", "g": -1, "C": "", "x": kind, "X": order.status, "r": "NONE",
            "i": order.order_id, "l": last["qty"] if last else "0", "z": str(order.executed), "L": last["price"] if last else "0",
            "n": "0.001" if last else "0", "N": "BNB" if last else None, "T": self._now_ms(), "t": last["id"] if last else -1,
            "I": 1, "w": True, "m": False, "M": False, "O": self._now_ms(), "Z": str(order.quote),
            "Y": last["quoteQty"] if last else "0", "Q": "0", "V": "NONE",
        }  # fmt: skip
        if kind == "CANCELED":
            event["c"], event["C"] = "cancel-request", order.client_id
        self.push(event)

    def push(self, event: dict[str, Any]) -> None:
        for socket in self.subscribed:
            self._spawn(socket.send_str(json.dumps({"subscriptionId": 0, "event": event})))

    def _spawn(self, work: Any) -> None:
        async def quietly() -> None:
            with contextlib.suppress(ConnectionError):
                await work

        task = asyncio.get_running_loop().create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _body(self, order: FakeOrder, *, fills: bool = False) -> dict[str, Any]:
        params = order.params
        body: dict[str, Any] = {
            "symbol": params["symbol"], "orderId": order.order_id, "orderListId": -1, "clientOrderId": order.client_id,
            "price": params.get("price", "0"), "origQty": params["quantity"], "executedQty": str(order.executed),
            "cummulativeQuoteQty": str(order.quote), "status": order.status, "timeInForce": params.get("timeInForce", "GTC"),
            "type": params["type"], "side": params["side"], "stopPrice": params.get("stopPrice", "0"),
            "time": self._now_ms(), "updateTime": self._now_ms(),
        }  # fmt: skip
        if fills:
            body["transactTime"] = self._now_ms()
            body["fills"] = [
                {key: trade[key] for key in ("price", "qty", "commission", "commissionAsset")} | {"tradeId": trade["id"]}
                for trade in self.trades
                if trade["orderId"] == order.order_id
            ]
        return body

    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.clock_offset_ms

    def _check(self, params: dict[str, str], payload: str) -> None:
        expected = hmac.new(SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest()
        if params.get("signature") != expected:
            raise FakeError(400, -1022, "Signature for this request is not valid.")
        timestamp, window = int(params["timestamp"]), int(params.get("recvWindow", "5000"))
        if timestamp > self._now_ms() + 1000 or self._now_ms() - timestamp > window:
            raise FakeError(400, -1021, "Timestamp for this request is outside of the recvWindow.")

    # one order request, whichever way it came

    async def _order_request(self, method: str, params: dict[str, str], way: str) -> tuple[Fault, dict[str, Any]]:
        self.requests[f"{way} {method}"] += 1
        if method == "order.place":
            self.places[params["newClientOrderId"]] += 1
        fault = self.faults.popleft() if self.faults else OK
        body: dict[str, Any] = {}
        if fault.accept and fault.error is None:
            if method == "order.place":
                body = self._body(self.place(params, fill=fault.fill, silent=fault.silent), fills=True)
            else:
                body = self._body(self.cancel(params["origClientOrderId"], silent=fault.silent))
                body |= {"origClientOrderId": params["origClientOrderId"], "clientOrderId": "cancel-request"}
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.error is not None:
            raise FakeError(*fault.error)
        body.pop(fault.without, None)
        return fault, body

    # REST

    async def _time(self, _: web.Request) -> web.Response:
        self.requests["rest time"] += 1
        return web.json_response({"serverTime": self._now_ms()})

    def _signed(self, request: web.Request) -> dict[str, str]:
        assert request.headers["X-MBX-APIKEY"] == KEY
        query = request.rel_url.raw_query_string
        params = dict(parse_qsl(query))
        self._check(params, unquote(query.partition("&signature=")[0]))
        return params

    async def _rest_order(self, request: web.Request) -> web.StreamResponse:
        try:
            params = self._signed(request)
            if request.method == "GET":
                return self._query(params)
            method = {"POST": "order.place", "DELETE": "order.cancel"}[request.method]
            fault, body = await self._order_request(method, params, "rest")
        except FakeError as error:
            return _refused(error)
        if fault.hang:
            await asyncio.sleep(60)
        if fault.close:
            assert request.transport is not None
            request.transport.abort()
        if fault.raw is not None:
            return web.Response(text=fault.raw, status=502, content_type="text/html")
        return web.json_response(body)

    def _query(self, params: dict[str, str]) -> web.Response:
        self.requests["rest query"] += 1
        self._query_fault()
        for order in reversed(self.orders):
            if not self.hide_orders and (
                order.client_id == params.get("origClientOrderId") or str(order.order_id) == params.get("orderId")
            ):
                return web.json_response(self._body(order))
        raise FakeError(400, -2013, "Order does not exist.")

    def _query_fault(self) -> None:
        if self.query_faults:
            fault = self.query_faults.popleft()
            if fault.error is not None:
                raise FakeError(*fault.error)

    async def _open_orders(self, request: web.Request) -> web.Response:
        self.requests["rest openOrders"] += 1
        try:
            self._signed(request)
        except FakeError as error:
            return _refused(error)
        return web.json_response([self._body(order) for order in self.orders if order.open and not self.hide_orders])

    async def _my_trades(self, request: web.Request) -> web.Response:
        self.requests["rest myTrades"] += 1
        try:
            params = self._signed(request)
        except FakeError as error:
            return _refused(error)
        first, order_id = int(params.get("fromId", "0")), params.get("orderId")
        found = [trade for trade in self.trades if trade["id"] >= first and order_id in (None, str(trade["orderId"]))]
        return web.json_response(
            [trade for trade in found if trade["symbol"] == params["symbol"]][: int(params.get("limit", "500"))]
        )

    async def _account(self, request: web.Request) -> web.Response:
        try:
            self._signed(request)
        except FakeError as error:
            return _refused(error)
        balances = [{"asset": asset, "free": str(free), "locked": "0"} for asset, free in self.balances.items()]
        return web.json_response({"balances": balances, "updateTime": self._now_ms()})

    # the WebSocket API

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        self.requests["ws connect"] += 1
        if self.refuse_sockets:
            return web.Response(status=503)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.add(socket)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._spawn(self._ws_request(socket, json.loads(message.data)))
        finally:
            self.sockets.discard(socket)
            self.subscribed.discard(socket)
        return socket

    async def _ws_request(self, socket: web.WebSocketResponse, message: dict[str, Any]) -> None:
        params = {name: str(value) for name, value in message["params"].items()}
        answer: dict[str, Any] = {"id": message["id"], "status": 200}
        fault = OK
        try:
            assert params["apiKey"] == KEY
            self._check(params, "&".join(f"{name}={params[name]}" for name in sorted(params) if name != "signature"))
            if message["method"] == "userDataStream.subscribe.signature":
                self.subscribed.add(socket)
                answer["result"] = {"subscriptionId": 0}
            else:
                fault, answer["result"] = await self._order_request(message["method"], params, "ws")
        except FakeError as error:
            answer |= {"status": error.status, "error": {"code": error.code, "msg": error.text}}
        if fault.hang:
            return
        if fault.close:
            assert socket._req is not None
            assert socket._req.transport is not None
            socket._req.transport.abort()
            return
        await socket.send_str(fault.raw if fault.raw is not None else json.dumps(answer))


def _refused(error: FakeError) -> web.Response:
    headers = {"Retry-After": "7"} if error.status in (418, 429) else {}
    return web.json_response({"code": error.code, "msg": error.text}, status=error.status, headers=headers)
