"""The WebSocket API: the same operations as REST in request frames, and the user data stream.

Source: https://github.com/binance/binance-spot-api-docs/blob/master/web-socket-api.md, read 2026-11-21.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from common_models.base import Side
from runtime.clock import now_ns
from simulator.exchange import AccountChange
from simulator.faults import ConnectionFault, InjectedError, ReplyDropped
from simulator.ledger import EntryKind, RequestIdentity
from simulator.sockets import Socket, SocketRules
from simulator.venues.binance import market_endpoints as market
from simulator.venues.binance import order_endpoints as orders
from simulator.venues.binance import order_payloads as payloads
from simulator.venues.binance.api import Call, Context, Endpoint, authenticate, perform
from simulator.venues.binance.errors import ApiError
from simulator.venues.binance.numbers import Payload
from simulator.venues.binance.params import Params
from simulator.venues.binance.signing import sorted_text

_MAX_SUBSCRIPTIONS = 1000
_SESSION_WEIGHT = 2
_METHODS: dict[str, Endpoint] = {
    "ping": market.PING,
    "time": market.TIME,
    "exchangeInfo": market.EXCHANGE_INFO,
    "depth": market.DEPTH,
    "trades.recent": market.RECENT_TRADES,
    "trades.historical": market.HISTORICAL_TRADES,
    "trades.aggregate": market.AGGREGATE_TRADES,
    "klines": market.KLINES,
    "avgPrice": market.AVERAGE_PRICE,
    "ticker.24hr": market.DAY_TICKER,
    "ticker.price": market.PRICE_TICKER,
    "ticker.book": market.BOOK_TICKER,
    "order.place": orders.PLACE,
    "order.test": orders.TEST,
    "order.cancel": orders.CANCEL,
    "order.cancelReplace": orders.CANCEL_REPLACE,
    "order.status": orders.QUERY,
    "openOrders.status": orders.OPEN_ORDERS,
    "openOrders.cancelAll": orders.CANCEL_ALL,
    "allOrders": orders.ALL_ORDERS,
    "myTrades": orders.OWN_TRADES,
    "account.status": orders.ACCOUNT,
    "account.rateLimits.orders": orders.ORDER_COUNTS,
}
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True, eq=False)
class _Session:
    """One connection: since when, and the accounts whose events it gets, by subscription id."""

    context: Context
    connected_ms: int
    socket: Socket | None = None
    subscriptions: dict[int, str] = field(default_factory=dict)
    next_subscription: int = 0
    show_limits: bool = True


class WsApiServer:
    """Serve `/ws-api/v3` and tell account events to those who subscribed."""

    def __init__(self, context: Context, rules: SocketRules) -> None:
        self._context = context
        self._rules = rules
        self._sessions: dict[_Session, None] = {}
        context.exchange.account_listeners.append(self._tell)

    def add_routes(self, app: web.Application) -> None:
        for path in ("/ws-api/v3", "/ws-api/v3/{rest:.*}"):
            app.router.add_get(path, self._serve)

    def announce_shutdown(self) -> None:
        frame = _encode({"event": {"e": "serverShutdown", "E": now_ns() // 1_000_000}})
        for session in self._sessions:
            if session.socket is not None:
                session.socket.send(frame)
                session.socket.close(1001, b"Server shutdown")

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        session = _Session(self._context, now_ns() // 1_000_000)
        session.show_limits = request.query.get("returnRateLimits", "true") != "false"

        async def on_text(text: str) -> None:
            assert session.socket is not None
            if self._context.faults:
                session.socket.spawn(self._answer(session, text))  # one that hangs must not hold up the others
            else:
                await self._answer(session, text)

        session.socket = Socket(request, self._rules, on_text)
        self._sessions[session] = None
        try:
            return await session.socket.serve()
        finally:
            del self._sessions[session]

    # -- requests ---------------------------------------------------------------------------------------------------------

    async def _answer(self, session: _Session, text: str) -> None:
        received_ns = now_ns()
        socket = session.socket
        assert socket is not None
        request_id: object = None
        try:
            request_id, method, params = _parse(text)
            identity = RequestIdentity("ws_api", str(request_id), socket.remote, received_ns)
            key, signature = params.get("apiKey"), params.pop("signature", "")
            call = Call(Params(params), identity, socket.address, key, sorted_text(params), signature)
            if (endpoint := _METHODS.get(method)) is not None:
                body: dict[str, Any] = {"status": 200, "result": await perform(self._context, endpoint, call)}
            else:
                body = {"status": 200, "result": self._session_method(session, method, call)}
        except ApiError as error:
            body = {"status": error.status, "error": error.body}
            if error.retry_after_s is not None:
                body["error"] = {**error.body, "data": {"serverTime": now_ns() // 1_000_000}}
        except InjectedError as error:
            body = {"status": error.status, "error": msgspec.Raw(error.body.encode() or b"{}")}
        except ReplyDropped:
            return
        except ConnectionFault:
            socket.abort()
            return
        answer = {"id": request_id, **body}
        if session.show_limits:
            answer["rateLimits"] = self._rate_limits(socket.address)
        socket.send(_encode(answer))

    def _rate_limits(self, address: str) -> list[dict[str, object]]:
        weight = self._context.limits.described()[0]
        return [{**weight, "count": self._context.limits.used_weight(address)}]

    def _session_method(self, session: _Session, method: str, call: Call) -> object:
        self._context.limits.spend(call.address, _SESSION_WEIGHT)
        match method:
            case "userDataStream.subscribe.signature":
                return self._subscribe(session, call)
            case "userDataStream.unsubscribe":
                return _unsubscribe(session, call.params)
            case "session.subscriptions":
                return [{"subscriptionId": number} for number in session.subscriptions]
            case "session.status" | "session.logout":
                return _session_status(session)
            case "session.logon":
                raise ApiError(-4056, "HMAC_SHA256 API key is not supported.")
            case "userDataStream.subscribe":
                raise ApiError(-1002, "You are not authorized to execute this request.", status=401)
        raise ApiError(-1020, "This operation is not supported.")

    def _subscribe(self, session: _Session, call: Call) -> dict[str, int]:
        credential, _ = authenticate(self._context, call, trade=False)
        if credential.account in session.subscriptions.values():
            raise ApiError(-2035, "User Data Stream subscription already active.")
        if len(session.subscriptions) >= _MAX_SUBSCRIPTIONS:
            raise ApiError(-2042, "Maximum subscription ID reached for this connection.")
        number = session.next_subscription
        session.next_subscription += 1
        session.subscriptions[number] = credential.account
        return {"subscriptionId": number}

    # -- events -----------------------------------------------------------------------------------------------------------

    def _tell(self, change: AccountChange) -> None:
        """Give an account's news to each connection that subscribed to it."""
        listening = [
            (session.socket, number)
            for session in self._sessions
            for number, account in session.subscriptions.items()
            if account == change.account and session.socket is not None
        ]
        if not listening:
            return
        events = [_encode(event) for event in self._events(change)]
        for socket, number in listening:
            for event in events:
                socket.send(b'{"subscriptionId":%d,"event":%s}' % (number, event))

    def _events(self, change: AccountChange) -> list[Payload]:
        if change.kind is EntryKind.DEPOSIT:
            row = change.balances[0]
            update = payloads.balance_update(change.ts_ns, row.asset, change.deposit)
            return [payloads.account_position(change.ts_ns, change.balances), update]
        reports = []
        for event in change.events:
            instrument = self._context.exchange.markets[event.order.symbol].instrument
            fee_asset = instrument.base if event.order.side is Side.BUY else instrument.quote
            reports.append(payloads.execution_report(change, event, instrument.native_symbol, fee_asset))
        return [*reports, payloads.account_position(change.ts_ns, change.balances)]


def _parse(text: str) -> tuple[object, str, dict[str, str]]:
    """Id, method and parameters (as text) of a request frame."""
    try:
        message = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise ApiError(-1135, "Invalid JSON Request") from None
    if not isinstance(message, dict) or not isinstance(message.get("method"), str):
        raise ApiError(-1135, "Invalid JSON Request")
    params = message.get("params") or {}
    if not isinstance(params, dict):
        raise ApiError(-1135, "Invalid JSON Request")
    return message.get("id"), message["method"], {name: _text(value) for name, value in params.items() if value is not None}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else _encode(value).decode()


def _unsubscribe(session: _Session, params: Params) -> dict[str, Any]:
    number = params.integer("subscriptionId")
    if number is None:
        session.subscriptions.clear()
    elif session.subscriptions.pop(number, None) is None:
        raise ApiError(-2036, "User Data Stream subscription not active.")
    return {}


def _session_status(session: _Session) -> dict[str, Any]:
    return {
        "apiKey": None,
        "authorizedSince": None,
        "connectedSince": session.connected_ms,
        "returnRateLimits": session.show_limits,
        "serverTime": now_ns() // 1_000_000,
        "userDataStream": bool(session.subscriptions),
    }
