"""The REST API: routes, headers and the mapping of errors to HTTP.

Source: https://github.com/binance/binance-spot-api-docs/blob/master/rest-api.md, read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from runtime.clock import now_ns
from simulator.faults import ConnectionFault, InjectedError, ReplyDropped
from simulator.ledger import RequestIdentity
from simulator.venues.binance import market_endpoints as market
from simulator.venues.binance import order_endpoints as orders
from simulator.venues.binance.api import Call, Context, Endpoint, perform
from simulator.venues.binance.errors import ApiError
from simulator.venues.binance.params import Params
from simulator.venues.binance.signing import unsigned_text

_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", "/api/v3/ping", market.PING),
    ("GET", "/api/v3/time", market.TIME),
    ("GET", "/api/v3/exchangeInfo", market.EXCHANGE_INFO),
    ("GET", "/api/v3/depth", market.DEPTH),
    ("GET", "/api/v3/trades", market.RECENT_TRADES),
    ("GET", "/api/v3/historicalTrades", market.HISTORICAL_TRADES),
    ("GET", "/api/v3/aggTrades", market.AGGREGATE_TRADES),
    ("GET", "/api/v3/klines", market.KLINES),
    ("GET", "/api/v3/uiKlines", market.KLINES),
    ("GET", "/api/v3/avgPrice", market.AVERAGE_PRICE),
    ("GET", "/api/v3/ticker/24hr", market.DAY_TICKER),
    ("GET", "/api/v3/ticker/price", market.PRICE_TICKER),
    ("GET", "/api/v3/ticker/bookTicker", market.BOOK_TICKER),
    ("POST", "/api/v3/order", orders.PLACE),
    ("POST", "/api/v3/order/test", orders.TEST),
    ("POST", "/api/v3/order/cancelReplace", orders.CANCEL_REPLACE),
    ("DELETE", "/api/v3/order", orders.CANCEL),
    ("DELETE", "/api/v3/openOrders", orders.CANCEL_ALL),
    ("GET", "/api/v3/order", orders.QUERY),
    ("GET", "/api/v3/openOrders", orders.OPEN_ORDERS),
    ("GET", "/api/v3/allOrders", orders.ALL_ORDERS),
    ("GET", "/api/v3/myTrades", orders.OWN_TRADES),
    ("GET", "/api/v3/account", orders.ACCOUNT),
    ("GET", "/api/v3/rateLimit/order", orders.ORDER_COUNTS),
)
_EMPTY_ANSWERS: tuple[tuple[str, bytes], ...] = (
    ("/sapi/v1/capital/config/getall", b"[]"),
    ("/sapi/v1/margin/allPairs", b"[]"),
    ("/sapi/v1/margin/isolated/allPairs", b"[]"),
    ("/fapi/v1/exchangeInfo", b'{"timezone":"UTC","rateLimits":[],"exchangeFilters":[],"assets":[],"symbols":[]}'),
    ("/dapi/v1/exchangeInfo", b'{"timezone":"UTC","rateLimits":[],"exchangeFilters":[],"symbols":[]}'),
)
"""Parts of the venue that are not simulated, but that clients ask for on their way to spot."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_routes(app: web.Application, context: Context) -> None:
    """Serve the REST API on `app`."""
    for method, path, endpoint in _ROUTES:
        app.router.add_route(method, path, _handler(context, endpoint))
    for path, body in _EMPTY_ANSWERS:
        app.router.add_get(path, _constant(body))


def _constant(body: bytes) -> _Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    return answer


def _handler(context: Context, endpoint: Endpoint) -> _Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            body = await perform(context, endpoint, await _read(request))
            status, headers = 200, {}
        except ApiError as error:
            body, status = error.body, error.status
            headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s is not None else {}
        except InjectedError as error:
            return web.Response(text=error.body, status=error.status, content_type="application/json")
        except (ConnectionFault, ReplyDropped):
            return _closed(request)
        return _json(context, request, body, status, headers, counts_orders=endpoint.places_order)

    return answer


def _json(
    context: Context, request: web.Request, body: object, status: int, headers: dict[str, str], *, counts_orders: bool
) -> web.Response:
    headers["X-MBX-USED-WEIGHT-1M"] = headers["X-MBX-USED-WEIGHT"] = str(context.limits.used_weight(_address(request)))
    credential = context.exchange.keyring.find(request.headers.get("X-MBX-APIKEY", ""))
    if counts_orders and credential is not None:
        ten_seconds, day = context.limits.order_counts(credential.account)
        headers["X-MBX-ORDER-COUNT-10S"], headers["X-MBX-ORDER-COUNT-1D"] = str(ten_seconds), str(day)
    return web.Response(body=msgspec.json.encode(body), status=status, headers=headers, content_type="application/json")


async def _read(request: web.Request) -> Call:
    """The request's parameters from query and body, which its signature covers exactly as they were sent."""
    received_ns = now_ns()
    query = request.rel_url.raw_query_string
    text = (await request.read()).decode("utf-8", "replace")
    pairs = parse_qsl(query, keep_blank_values=True) + parse_qsl(text, keep_blank_values=True)
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ApiError(-1101, "Duplicate values for a parameter detected.")
    payload, signature = unsigned_text(query, text)
    values.pop("signature", None)
    remote = request.transport.get_extra_info("peername") if request.transport is not None else None
    identity = RequestIdentity(
        "rest", f"{request.method} {request.path}", f"{remote[0]}:{remote[1]}" if remote else "", received_ns
    )
    return Call(Params(values), identity, _address(request), request.headers.get("X-MBX-APIKEY"), payload, signature)


def _address(request: web.Request) -> str:
    return request.remote or ""


def _closed(request: web.Request) -> web.Response:
    """Break the connection without an answer: what is returned here is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
