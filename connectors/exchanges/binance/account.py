"""One Binance spot account: orders by the WebSocket API with REST as the second way, queries by REST, account events pushed.

Source: binance-spot-api-docs, read 2026-07-21. Identity class C: a client order id is unique among open orders only, so nothing is
ever sent again before the first is proved dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
import structlog

from common_models import CancelOrder, Instrument, PlaceOrder, SymbolError
from common_models.timestamps import TimestampError, ms_to_ns
from connectors.errors import BadResponse, ClockRefused, ExchangeError, NotSent, OrderNotFound, OrderOutcomeUnknown
from connectors.exchanges.binance.order_wire import (
    AccountBody,
    EventName,
    ExecutionEvent,
    OrderBody,
    PositionEvent,
    TradeBody,
    account_balances,
    execution,
    order_report,
    position_balances,
    trade,
)
from connectors.exchanges.binance.orders import (
    ORDER_PATH,
    REST_METHODS,
    SUBSCRIBE,
    ApiFraming,
    cancel_request,
    place_request,
)
from connectors.exchanges.binance.signing import BinanceSigner
from connectors.exchanges.binance.symbols import native_symbol, split_native
from connectors.journal_records import WireRequest
from connectors.order_entry import AccountListener, BalanceReport, OnAnswer, OrderReport
from connectors.rate_budget import Lane, RateBudget
from connectors.rest import RestClient
from connectors.venue_clock import VenueClock
from connectors.ws_api import WsApi
from runtime.clock import now_ns
from trading.order_state import Executed

T = TypeVar("T")

log = structlog.get_logger(__name__)

LIFETIME_S = 23.5 * 3600
"""Binance ends a connection after 24 hours."""
TRADES_PAGE = 1000

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, BadResponse)
"""What an answer or an event of another form than documented raises. Raw parts are checked only when they are decoded."""

_order = msgspec.json.Decoder(OrderBody).decode
_event_name = msgspec.json.Decoder(EventName).decode
_execution = msgspec.json.Decoder(ExecutionEvent).decode
_position = msgspec.json.Decoder(PositionEvent).decode


class ServerTime(msgspec.Struct):
    serverTime: int  # noqa: N815 the venue's name


class BinanceAccount:
    """Implements `connectors.order_entry.OrderEntry`."""

    name = "binance"
    settle_s = 10.0  # "APIs have a timeout of 10 seconds when processing a request"
    retention_s = 90 * 86_400.0

    def __init__(
        self,
        rest: RestClient,
        ws_api_url: str,
        budget: RateBudget,
        signer: BinanceSigner,
        clock: VenueClock,
        instruments: Callable[[], Mapping[str, Instrument]],
        *,
        answer_timeout_s: float = 10.0,
    ) -> None:
        """`instruments` gives the known markets by our symbol, at any time."""
        self.clock = clock
        self.recv_window_s = signer.recv_window_ms / 1000
        self._rest = rest
        self._signer = signer
        self._instruments = instruments
        self._listener: AccountListener | None = None
        self._natives: dict[str, str] = {}
        self.unreadable = 0
        self._api = WsApi(
            ws_api_url,
            ApiFraming(budget),
            on_event=self._on_event,
            on_unreadable=self._on_unreadable,
            on_open=self._subscribe,
            on_state=self._on_state,
            lifetime_s=LIFETIME_S,
            timeout_s=answer_timeout_s,
        )

    async def run(self, listener: AccountListener, stop: asyncio.Event) -> None:
        """Keep the WebSocket API connected and subscribed until stopped."""
        self._listener = listener
        await self._api.run(stop)

    # commands

    def place(self, command: PlaceOrder, client_order_id: str, instrument: Instrument) -> WireRequest:
        return place_request(command, client_order_id, instrument)

    def cancel(self, command: CancelOrder, instrument: Instrument | None) -> WireRequest:
        return cancel_request(command, instrument)

    def send(self, request: WireRequest, timestamp_ms: int, on_answer: OnAnswer) -> None:
        """Sign and write; see OrderEntry."""

        def read(reply: msgspec.Raw | ExchangeError) -> None:
            on_answer(reply if isinstance(reply, ExchangeError) else self._read_order(reply))

        if not self._api.connected:
            raise NotSent("the WebSocket API is not connected")
        self._api.send(request.method, self._signer.ws_params(request.params, timestamp_ms), read)

    async def send_second_way(self, request: WireRequest, timestamp_ms: int, last_check: Callable[[], None]) -> OrderReport:
        """The same by REST; the budget was already asked for the first way."""
        params = {**request.params, "timestamp": str(timestamp_ms)}
        lane = Lane.ORDER if request.orders else Lane.CANCEL
        method = REST_METHODS[request.method]
        body = await self._rest.signed(method, ORDER_PATH, params, weight=0, lane=lane, shape=OrderBody, last_check=last_check)
        try:
            return order_report(body, self._symbol_of)
        except BadResponse as error:
            raise OrderOutcomeUnknown(error.detail) from error

    def _read_order(self, reply: msgspec.Raw) -> OrderReport | ExchangeError:
        """The order in an answer; anything unreadable leaves the outcome unknown (R04)."""
        try:
            return order_report(_order(reply), self._symbol_of)
        except UNREADABLE as error:
            return OrderOutcomeUnknown(f"the answer cannot be read: {error}")

    # questions

    async def measure_clock(self) -> None:
        async def server_time_ns() -> int:
            answer = await self._rest.get("/api/v3/time", weight=1, lane=Lane.ACCOUNT, shape=ServerTime)
            try:
                return ms_to_ns(answer.serverTime)
            except TimestampError as error:
                raise BadResponse(f"/api/v3/time: {error}") from error

        await self.clock.measure(server_time_ns)

    async def order(self, symbol: str, *, client_order_id: str = "", exchange_order_id: str = "") -> OrderReport | None:
        params = {"symbol": self._native(symbol)}
        if client_order_id:
            params["origClientOrderId"] = client_order_id
        else:
            params["orderId"] = exchange_order_id
        try:
            body = await self._ask(ORDER_PATH, params, weight=4, lane=Lane.ORDER, shape=OrderBody)
        except OrderNotFound:
            return None
        return order_report(body, self._symbol_of)

    async def open_orders(self) -> list[OrderReport]:
        bodies = await self._ask("/api/v3/openOrders", {}, weight=80, shape=list[OrderBody])
        return [order_report(body, self._symbol_of) for body in bodies]

    async def fills(self, symbol: str, *, exchange_order_id: str = "", after_trade_id: int | None = None) -> list[Executed]:
        params = {"symbol": self._native(symbol), "limit": str(TRADES_PAGE)}
        if exchange_order_id:
            params["orderId"] = exchange_order_id
        elif after_trade_id is not None:
            params["fromId"] = str(after_trade_id + 1)
        fills: list[Executed] = []
        weight = 5 if exchange_order_id else 20
        while True:
            page = await self._ask("/api/v3/myTrades", params, weight=weight, shape=list[TradeBody])
            fills += [trade(body) for body in page]
            if len(page) < TRADES_PAGE or (not exchange_order_id and after_trade_id is None):
                return fills
            if page[-1].id < int(params.get("fromId", 0)):
                raise BadResponse(f"myTrades of {symbol}: asked for trades from {params['fromId']} on, got {page[-1].id}")
            params = {**params, "fromId": str(page[-1].id + 1)}  # until a page is not full: a truncated list is no list

    async def balances(self) -> list[BalanceReport]:
        asked_ns = self.clock.now_ns()
        params = {"omitZeroBalances": "true"}
        body = await self._ask("/api/v3/account", params, weight=20, shape=AccountBody)
        return account_balances(body, asked_ns)

    async def _ask(self, path: str, params: Mapping[str, str], *, weight: int, shape: type[T], lane: Lane = Lane.ACCOUNT) -> T:
        """A signed question; a refused time stamp is measured anew and the question put once more."""
        try:
            return await self._rest.signed("GET", path, params, weight=weight, lane=lane, shape=shape)
        except ClockRefused:
            self.clock.forget()
            await self.measure_clock()
            return await self._rest.signed("GET", path, params, weight=weight, lane=lane, shape=shape)

    # what the venue pushes

    async def _subscribe(self) -> None:
        """Ask for the account's events on a fresh connection."""
        if not self.clock.known:
            await self.measure_clock()
        try:
            await self._api.call(SUBSCRIBE, self._signer.ws_params({}, self.clock.now_ms()))
        except ClockRefused:
            self.clock.forget()
            await self.measure_clock()
            raise
        if self._listener is not None:
            self._listener.on_user_data_leg(True, "")

    def _on_state(self, connected: bool, reason: str) -> None:
        if self._listener is None:
            return
        self._listener.on_orders_leg(connected, reason)
        if not connected:
            self._listener.on_user_data_leg(False, reason)

    def _on_event(self, raw: msgspec.Raw) -> None:
        """One account event."""
        recv_ns = now_ns()
        listener = self._listener
        if listener is None:
            return
        try:
            name = _event_name(raw).e
            if name == "executionReport":
                listener.on_order(execution(_execution(raw), self._symbol_of), recv_ns)
            elif name == "outboundAccountPosition":
                listener.on_balances(position_balances(_position(raw)), recv_ns)
            elif name in ("balanceUpdate", "externalLockUpdate"):
                listener.on_user_data_leg(True, name)  # only a difference: ask for the whole
            elif name in ("eventStreamTerminated", "serverShutdown"):
                listener.on_user_data_leg(False, name)
                self._api.renew()
        except UNREADABLE as error:
            self._on_unreadable(error)

    def _on_unreadable(self, error: Exception) -> None:
        """Count what could not be read and have the account asked for anew, since it may have been a fill."""
        self.unreadable += 1
        log.warning("account.unreadable_event", exchange=self.name, error=str(error))
        if self._listener is not None:
            self._listener.on_user_data_leg(True, "a message could not be read")

    # names

    def _native(self, symbol: str) -> str:
        instrument = self._instruments().get(symbol)
        return instrument.native_symbol if instrument is not None else native_symbol(symbol)

    def _symbol_of(self, native: str) -> str:
        """Our name of a market. Only listed ones are remembered: others may be listed later, and any text can be in a report."""
        known = self._natives.get(native)
        if known is not None:
            return known
        for entry in self._instruments().values():
            if entry.native_symbol == native:
                self._natives[native] = entry.symbol
                return entry.symbol
        try:
            return split_native(native)
        except SymbolError:
            return native  # somebody else's order in a market that we do not know: told as it is
