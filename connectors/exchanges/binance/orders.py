"""Binance spot's order requests: what a command looks like on the wire, and how the WebSocket API frames it.

Source: binance-spot-api-docs, web-socket-api.md, read 2026-07-21. REST takes the same parameters.
"""

from __future__ import annotations

import msgspec

from common_models import CancelOrder, Instrument, OrderType, PlaceOrder
from common_models.decimals import plain
from connectors.errors import BadResponse, OrderRejected
from connectors.exchanges.binance.error_codes import ErrorBody, error_of
from connectors.exchanges.binance.symbols import native_symbol
from connectors.journal_records import WireRequest
from connectors.rate_budget import RateBudget
from connectors.ws_api import Frame, Params

PLACE, CANCEL = "order.place", "order.cancel"
SUBSCRIBE = "userDataStream.subscribe.signature"
REST_METHODS = {PLACE: "POST", CANCEL: "DELETE"}
ORDER_PATH = "/api/v3/order"

_INTERVAL_S = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86_400}


def place_request(command: PlaceOrder, client_order_id: str, instrument: Instrument) -> WireRequest:
    """The parameters of order.place. FULL asks for the fills in the answer."""
    params = {
        "symbol": instrument.native_symbol,
        "side": command.side.value.upper(),
        "type": _type(command),
        "quantity": plain(command.quantity),
        "newClientOrderId": client_order_id,
        "newOrderRespType": "FULL",
    }
    if command.price is not None:
        params["price"] = plain(command.price)
    if command.stop_price is not None:
        params["stopPrice"] = plain(command.stop_price)
    if params["type"] in ("LIMIT", "STOP_LOSS_LIMIT"):
        params["timeInForce"] = command.time_in_force.value.upper()
    return WireRequest(method=PLACE, params=params, weight=1, orders=1)


def cancel_request(command: CancelOrder, instrument: Instrument | None) -> WireRequest:
    """The parameters of order.cancel. Works for a market that is no longer listed to us, too."""
    native = instrument.native_symbol if instrument is not None else native_symbol(command.symbol)
    return WireRequest(method=CANCEL, params={"symbol": native, "origClientOrderId": command.client_order_id}, weight=1)


def _type(command: PlaceOrder) -> str:
    match command.order_type:
        case OrderType.MARKET:
            return "MARKET"
        case OrderType.LIMIT:
            return "LIMIT_MAKER" if command.post_only else "LIMIT"
        case OrderType.STOP_LIMIT:
            return "STOP_LOSS_LIMIT"
    raise OrderRejected(f"Binance spot has no {command.order_type} orders", code="NOT_SUPPORTED")


class RateLimit(msgspec.Struct):
    """One limit and how much of it is used, as every answer says."""

    rateLimitType: str  # noqa: N815 the venue's names
    interval: str
    intervalNum: int  # noqa: N815
    limit: int
    count: int = 0


class ApiMessage(msgspec.Struct):
    """Anything that comes from the WebSocket API: an answer (with `status`) or an event. Raw parts are empty when absent."""

    id: int | None = None
    status: int | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: ErrorBody | None = None
    rateLimits: list[RateLimit] = []  # noqa: N815
    event: msgspec.Raw = msgspec.Raw()


class ApiFraming:
    """Requests and answers of the WebSocket API. The venue's own counts go into the rate budget."""

    def __init__(self, budget: RateBudget) -> None:
        self._budget = budget
        self._decode = msgspec.json.Decoder(ApiMessage).decode
        self._encode = msgspec.json.Encoder().encode

    def request(self, number: int, method: str, params: Params) -> bytes:
        return self._encode({"id": number, "method": method, "params": params})

    def read(self, message: bytes) -> Frame:
        """Tell answer from event; raises BadResponse for anything else."""
        try:
            read = self._decode(message)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise BadResponse(f"not a WebSocket API message: {error}; it begins {message[:80]!r}") from error
        if read.event:
            return Frame(event=read.event)
        for limit in read.rateLimits:
            self._adopt(limit)
        if read.id is None or read.status is None:
            raise BadResponse(f"neither answer nor event: {message[:80]!r}")
        if read.status == 200:
            return Frame(number=read.id, result=read.result)
        failure = error_of(read.status, read.error or ErrorBody(code=0, msg=f"status {read.status} without an error"))
        if read.status in (418, 429):
            self._budget.silence(getattr(failure, "retry_after_s", 60.0))
        return Frame(number=read.id, error=failure)

    def _adopt(self, limit: RateLimit) -> None:
        length_s = _INTERVAL_S.get(limit.interval, 0) * limit.intervalNum
        if limit.rateLimitType == "REQUEST_WEIGHT" and length_s == 60:
            self._budget.adopt(limit.count)
        elif limit.rateLimitType == "ORDERS":
            self._budget.adopt_orders(limit.count, length_s, limit.limit)
