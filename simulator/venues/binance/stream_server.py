"""The doors to the public streams: addresses, and the requests that a client sends over its connection."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from simulator.sockets import Socket, SocketRules
from simulator.venues.binance.streams import Hub, Subscriber

MAX_STREAMS = 1024
MESSAGES_PER_S = 5
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_encode = msgspec.json.Encoder().encode


class StreamServer:
    """Serve `/ws`, `/ws/NAMES`, `/stream?streams=NAMES` and `/stream/ws`; names may be joined by slashes."""

    def __init__(self, hub: Hub, rules: SocketRules) -> None:
        self._hub = hub
        self._rules = rules

    def add_routes(self, app: web.Application) -> None:
        # ccxt opens /stream/ws/0, /stream/ws/1, ...: one number a connection, which names no stream
        for path in ("/ws", "/ws/{names:.*}"):
            app.router.add_get(path, self._raw)
        for path in ("/stream", "/stream/ws", "/stream/ws/{names:.*}", "/stream/{names:[0-9]*}"):
            app.router.add_get(path, self._combined)

    async def _raw(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, combined=False)

    async def _combined(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, combined=True)

    async def _serve(self, request: web.Request, *, combined: bool) -> web.StreamResponse:
        names = f"{request.match_info.get('names', '')}/{request.query.get('streams', '')}".split("/")
        streams = [name for name in names if "@" in name][:MAX_STREAMS]
        subscriber = Subscriber(combined=combined)

        async def on_text(text: str) -> None:
            socket.send(_encode(self._answer(subscriber, text)))

        socket = Socket(request, self._rules, on_text)
        subscriber.socket = socket
        self._hub.join(subscriber, streams)
        try:
            return await socket.serve()
        finally:
            self._hub.drop(subscriber)

    def _answer(self, subscriber: Subscriber, text: str) -> dict[str, Any]:
        try:
            message = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}
        if not isinstance(message, dict):
            return {"code": 2, "msg": "Invalid request: expected an object"}
        request_id = message.get("id")
        if isinstance(request_id, bool) or not (request_id is None or isinstance(request_id, int | str)):
            return {"code": 2, "msg": "Invalid request: request ID must be an unsigned integer"}
        outcome = self._carry_out(subscriber, message)
        return {**outcome, "id": request_id}

    def _carry_out(self, subscriber: Subscriber, message: dict[str, Any]) -> dict[str, Any]:
        method, params = message.get("method"), message.get("params", [])
        if method is None:
            return _invalid("missing field `method` at line 1 column 1")
        if method not in _METHODS:
            expected = ", ".join(f"`{name}`" for name in _METHODS)
            return _invalid(f"unknown variant `{str(method)[:40]}`, expected one of {expected} at line 1 column 1")
        if method == "LIST_SUBSCRIPTIONS":
            return {"result": list(subscriber.streams)}
        if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return self._change_streams(subscriber, params, join=method == "SUBSCRIBE")
        return _property(subscriber, method, params)

    def _change_streams(self, subscriber: Subscriber, params: object, *, join: bool) -> dict[str, Any]:
        if not isinstance(params, list) or not all(isinstance(name, str) for name in params):
            return _invalid("invalid type: expected a list of stream names")
        if join and len({*subscriber.streams, *params}) > MAX_STREAMS:
            return _invalid("too many subscriptions")
        # the answer leaves before the first frame, as it is queued by the caller within this turn of the event loop
        if join:
            asyncio.get_running_loop().call_soon(self._join_later, subscriber, params)
        else:
            self._hub.leave(subscriber, params)
        return {"result": None}

    def _join_later(self, subscriber: Subscriber, streams: list[str]) -> None:
        if subscriber in self._hub.subscribers:
            self._hub.join(subscriber, streams)


def _property(subscriber: Subscriber, method: str, params: object) -> dict[str, Any]:
    if not isinstance(params, list) or not params or params[0] != "combined":
        return {"code": 0, "msg": "Unknown property"}
    if method == "GET_PROPERTY":
        return {"result": subscriber.combined}
    if len(params) != 2 or not isinstance(params[1], bool):
        return {"code": 1, "msg": "Invalid value type: expected Boolean"}
    subscriber.combined = params[1]
    return {"result": None}


def _invalid(what: str) -> dict[str, Any]:
    return {"code": 2, "msg": f"Invalid request: {what}"}
